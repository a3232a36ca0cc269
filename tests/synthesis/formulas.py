"""What several tests of synthesizers compute from formulas, in float64."""

import numpy as np
from torch import nn


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def statistics_of(network, x):
    """The distance of BatchNorm statistics from its formula, on a plain sequence of layers."""
    distances = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            values = x.detach().double().numpy()
            axes = (0,) if values.ndim == 2 else (0, 2, 3)
            mean, variance = layer.running_mean.double(), layer.running_var.double()
            offset = values.mean(axes) - mean.numpy()
            spread = values.var(axes) - variance.numpy()
            distances.append(np.mean(offset**2) + np.mean(spread**2))
        x = layer(x)
    return np.mean(distances)

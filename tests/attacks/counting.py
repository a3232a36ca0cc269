"""A model that notes how many images it is asked about."""

from torch import nn


class Counting(nn.Module):
    """Asks another model; ``asked`` are the images of every pass."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, []

    def forward(self, x):
        self.asked.append(len(x))
        return self.model(x)

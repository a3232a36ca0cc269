"""DAD: attacked images are found by their logits, and answered by their low frequencies."""

import copy
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks import Attack
from dfshield.attacks.penultimate import feature_map, find_head
from dfshield.checks import at_least, positive
from dfshield.classifiers import Classifier, read_weights
from dfshield.classifiers.weights import fit_weights
from dfshield.defences.base import Defence
from dfshield.defences.dad_correction import RADII, chosen_radius, low_pass, ssim
from dfshield.defences.dad_detector import ATTACKED, Detector, require_classes
from dfshield.defences.fitted import fingerprint
from dfshield.errors import InputError
from dfshield.seeds import RngStream, generator

LEAK = (
    "dad's detector was adapted, as published, on unlabelled logits of test images: if they are "
    "those measured here, the test set leaks into the defence"
)
NO_LEAK = "dad's detector was not adapted to the images measured here, which the published one is"
BPDA = (
    "the gradient through dad passes its correction as if that were the identity (BPDA), and "
    "takes what its detector says for a constant"
)


class DAD(Defence):
    """Data-free adversarial defence (Nayak et al. 2022): detection, then correction.

    An image whose logits the detector takes for attacked is answered by the classifier's logits of
    its low frequencies: inside the disc of radius 2, 4, ..., 14 (of 32 pixels; in proportion in
    other sizes) of its spectrum. The radius is the largest before the first, scanning upward, that
    fails ``SSIM(x, x_r) > 1 - LCR_r``; 4 if the first does. LCR is the share of passes, with
    dropout before the last layer, whose label on x_r differs from the label on x.

    The dropout is drawn once, so the defended model is deterministic. Its forward pass is not
    differentiable: a gradient passes the correction as if it were the identity (BPDA, Athalye et
    al. 2018).

    Args:
        detector: the file of a `Detector`'s state_dict, as ``torch.save`` or safetensors write it.
        passes: with dropout, for every radius.
        dropout: share of features that is dropped, below 1.
        seed: of the dropout.

    Raises:
        InputError: for a file that is missing, damaged or no detector's; an option that makes no
            sense.
    """

    name = "dad"
    differentiable = False
    bpda = "identity"

    def __init__(
        self, *, detector: str, passes: int = 10, dropout: float | int = 0.65, seed: int = 0
    ) -> None:
        if not isinstance(detector, str):
            raise InputError(f"detector: a file was expected (got {detector!r})")
        self.detector = detector
        self.passes = at_least(1, passes, "passes")
        self.dropout = positive(dropout, "dropout", most=0.99)
        self.seed = at_least(0, seed, "seed")
        self.network = load_detector(detector)

    @property
    def leaks(self) -> bool:
        """Whether its detector was adapted."""
        return bool(self.network.adapted)

    def contents(self) -> dict[str, str]:
        """Return the fingerprint of the detector."""
        return {"detector": fingerprint(self.network)}

    def remarks(self, attack: Attack | None) -> list[str]:
        """Return that test images leak into it, and how gradients pass it."""
        leak = LEAK if self.leaks else NO_LEAK
        return [leak, BPDA] if attack is not None and attack.needs_gradient else [leak]

    def around(self, model: nn.Module) -> nn.Module:
        """Return the detector and the correction around a model; see `Defence`."""
        if isinstance(model, Classifier):
            require_classes(self.network, model.architecture.num_classes)
        return _Corrected(model, self)


def load_detector(path: str) -> Detector:
    """Read a detector; nothing but tensors is unpickled.

    Raises:
        InputError: beginning with ``detector``, for what is none.
    """
    try:
        weights = read_weights(path)
        first = weights.tensors.get("first.weight")
        if first is None or first.ndim != 2:
            raise InputError(f"{path}: holds no detector of dad: train_detector makes one")
        with torch.device("meta"):  # its weights come from the file alone
            detector = Detector(first.shape[1])
        detector.to_empty(device="cpu")
        fit_weights(detector, weights, source="dad's detector", num_classes=first.shape[1])
    except InputError as error:
        raise InputError(f"detector: {error}") from None
    return detector.eval().requires_grad_(False)


class _Corrected(nn.Module):
    """A model behind `DAD`; the detector is in eval mode always.

    Args:
        model: returns logits.
        defence: its options and its detector.
    """

    def __init__(self, model: nn.Module, defence: DAD) -> None:
        super().__init__()
        self.model = model
        first = next(chain(model.parameters(), model.buffers()), torch.empty(0))
        self.detector = copy.deepcopy(defence.network).to(first.device)
        self._dropout, self._passes, self._seed = defence.dropout, defence.passes, defence.seed

    def train(self, mode: bool = True) -> "_Corrected":
        """Set the mode of the model."""
        super().train(mode)
        self.detector.eval()
        return self

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the model's logits, those of the correction where the detector finds an attack.

        Raises:
            InputError: for logits that are not those of the detector, or a model without a last
                layer to drop features before.
        """
        logits: Tensor = self.model(x)
        require_classes(self.detector, logits.shape[1])
        with torch.no_grad():
            answers = self.detector(logits.detach().float())
            found = (answers.argmax(1) == ATTACKED).nonzero().flatten()
            if len(found) == 0:
                return logits
            images = x[found]
            corrected = self._corrected(images, logits[found].argmax(1))
        # The value is that of the correction, the gradient that of the image.
        moved = x[found] + (corrected - images)
        return logits.index_copy(0, found, self.model(moved))

    def _corrected(
        self, x: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return the low frequencies that every image is answered by."""
        try:
            head = find_head(self.model, x[:1], None)
        except InputError:
            raise InputError(
                "dad: no linear or convolutional layer of the model gives one value per class, so "
                "that there are no features to drop"
            ) from None
        features = feature_map(self.model, head)
        low = [low_pass(x, radius) for radius in RADII]
        changed = [self._change_rate(head, features(each), labels) for each in low]
        similar = [ssim(x, each) for each in low]
        best = chosen_radius(torch.stack(similar, 1), torch.stack(changed, 1))
        return torch.stack(low)[best, torch.arange(len(x), device=x.device)]

    def _change_rate(
        self, head: nn.Module, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Return the share of passes with dropout before the last layer that change the label."""
        draw = generator(self._seed, RngStream.DEFENCE, 2)
        kept = draw.random((self._passes, features.shape[1])) >= self._dropout
        masks = torch.from_numpy(kept).to(features) / (1 - self._dropout)
        weight = head.weight
        assert isinstance(weight, Tensor)
        ones = (1,) * (weight.ndim - 2)  # of a convolution in place of a linear layer
        if features.shape[1] != weight.shape[1]:
            raise InputError("dad: the model's last layer is no layer on a vector of features")
        rate = torch.zeros(len(features), device=features.device)
        for mask in masks:
            shaken = head((features * mask).view(len(features), -1, *ones)).flatten(1)
            rate += (shaken.argmax(1) != labels) / self._passes
        return rate

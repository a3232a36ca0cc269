"""DiffPure: images are diffused and brought back by a score network before they are classified."""

import copy
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.checks import positive
from dfshield.classifiers import Classifier, read_weights
from dfshield.classifiers.weights import fit_weights
from dfshield.defences.base import Defence
from dfshield.defences.diffusion import purified
from dfshield.defences.fitted import fingerprint
from dfshield.defences.score_network import GROUPS, ScoreNetwork
from dfshield.errors import InputError


class DiffPure(Defence):
    """Diffusion purification (Nie et al. 2022): noise is added, and taken out by the reverse SDE.

    On the scale [-1, 1], ``x(t) = sqrt(abar) x + sqrt(1 - abar) noise``, then Euler steps of the
    reverse variance-preserving SDE back to 1e-5; see `dfshield.defences.diffusion`. Gradients go
    through all of it, with one image kept for each step.

    It draws anew at every forward pass: as torch's own layers do, by one number that it takes from
    torch's default generator, which evaluations seed slice by slice. AutoAttack's version ``rand``
    applies, not ``standard``. The published setting of CIFAR-10 is t 0.1 for l_inf and 0.075 for
    l_2.

    Args:
        score: the file of a `ScoreNetwork`'s state_dict, as ``torch.save`` or safetensors write it.
            The published NCSN++ checkpoints are of another architecture, and are refused.
        t: to which time images are diffused, at most 1.
        step: of the way back.

    Raises:
        InputError: for a file that is missing, damaged or no score network's; an option that makes
            no sense.
    """

    name = "diffpure"
    randomised = True

    def __init__(self, *, score: str, t: float | int = 0.1, step: float | int = 0.001) -> None:
        if not isinstance(score, str):
            raise InputError(f"score: a file was expected (got {score!r})")
        self.score = score
        self.t = positive(t, "t", most=1.0)
        self.step = positive(step, "step", most=1.0)
        self.network = load_score(score)

    def contents(self) -> dict[str, str]:
        """Return the fingerprint of the score network."""
        return {"score": fingerprint(self.network)}

    def around(self, model: nn.Module) -> nn.Module:
        """Return the purification before a model; see `Defence`."""
        if isinstance(model, Classifier):
            _require_channels(self.network, model.input_shape[0])
        return _Purified(model, self)


def load_score(path: str) -> ScoreNetwork:
    """Read a score network; nothing but tensors is unpickled.

    Raises:
        InputError: beginning with ``score``, for what is none.
    """
    try:
        weights = read_weights(path)
        stem = weights.tensors.get("stem.weight")
        if stem is None or stem.ndim != 4 or stem.shape[0] % GROUPS:
            raise InputError(f"{path}: holds no score network of dfshield: train_score makes one")
        with torch.device("meta"):  # its weights come from the file alone
            network = ScoreNetwork(stem.shape[1], stem.shape[0])
        network.to_empty(device="cpu")
        fit_weights(network, weights, source="diffpure's score network", num_classes=0)
    except InputError as error:
        raise InputError(f"score: {error}") from None
    return network.eval().requires_grad_(False)


class _Purified(nn.Module):
    """A model behind `DiffPure`.

    Args:
        model: returns logits.
        defence: its options and its network.
    """

    def __init__(self, model: nn.Module, defence: DiffPure) -> None:
        super().__init__()
        self.model = model
        first = next(chain(model.parameters(), model.buffers()), torch.empty(0))
        self.score = copy.deepcopy(defence.network).to(first.device)
        self._t, self._step = float(defence.t), float(defence.step)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the model's logits of the purified images.

        Raises:
            InputError: for images of other channels than the network's.
        """
        _require_channels(self.score, x.shape[1])
        drawn = int(torch.randint(2**31, ()))

        def noise(number: int) -> Tensor:
            own = torch.Generator(x.device).manual_seed(drawn + number)
            return torch.randn(x.shape, generator=own, device=x.device, dtype=x.dtype)

        back = purified(2 * x - 1, self._t, self._step, self.score, noise)
        found: Tensor = self.model((back + 1) / 2)
        return found


def _require_channels(network: ScoreNetwork, channels: int) -> None:
    if channels != network.channels:
        raise InputError(
            f"score: it denoises images of {network.channels} channels, but these have {channels}: "
            "train one on such images"
        )

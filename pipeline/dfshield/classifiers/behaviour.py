"""What a network answers to fixed images: the part of its identity that no weight tells.

A ``python:`` factory's code may change while its name and its weights stay. Its answers to a probe
batch, in eval and in train mode, are kept beside the weights; a network that answers otherwise is
another one.
"""

import base64
import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.brief import Brief
from dfshield.classifiers.logits import SAME_LOGITS, answer_of, dtype_of, same_logits
from dfshield.errors import InputError
from dfshield.seeds import torch_generators

NUM_PROBES = 8
LOW_PRECISION = 2e-2
"""As `SAME_LOGITS`, for answers in half precision."""

_SEED = 11

Answers = Float[Tensor, "n k"] | None
"""None: the network draws random numbers that no seed fixes, or fails in this mode."""


def probe_images(shape: tuple[int, int, int]) -> Float[Tensor, "n c h w"]:
    """Return `NUM_PROBES` fixed images in [0, 1]: noise of several contrasts, a ramp, flat ones."""
    noise = np.random.default_rng(_SEED).random((NUM_PROBES, *shape), dtype=np.float32)
    noise[3] = 0.4 + 0.2 * noise[3]
    noise[4] = 0.1 * noise[4]
    noise[5] = np.linspace(0, 1, noise[5].size, dtype=np.float32).reshape(shape)
    noise[6], noise[7] = 0.0, 1.0
    return torch.from_numpy(noise)


@dataclass(frozen=True, eq=False, repr=False)
class Behaviour(Brief):
    """Answers to the probe batch.

    Attributes:
        eval: in eval mode.
        train: in train mode.
        tolerance: how far they may move and still be the same; see `same_logits`.
    """

    eval: Answers
    train: Answers
    tolerance: float

    def same_as(self, other: "Behaviour") -> bool:
        """Return whether two behaviours are the same but for rounding."""
        tolerance = max(self.tolerance, other.tolerance)
        return _same(self.eval, other.eval, tolerance) and _same(self.train, other.train, tolerance)

    def digest(self) -> str:
        """Return a SHA-256 of the answers in steps of the tolerance: not `same_as`, not equal."""
        digest = hashlib.sha256()
        for answers in (self.eval, self.train):
            text = "none"
            if answers is not None:
                finite = answers.double().nan_to_num(posinf=0.0, neginf=0.0)
                scale = float(finite.abs().max())
                steps = (finite / (self.tolerance * scale)).round() if scale else finite
                text = json.dumps([f"{scale:.2e}", steps.long().tolist()])
            digest.update(text.encode())
        return digest.hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return values from which `from_json` makes an equal object."""
        return {
            "eval": _packed(self.eval),
            "train": _packed(self.train),
            "tolerance": self.tolerance,
        }

    @classmethod
    def from_json(cls, values: object, *, num_classes: int) -> "Behaviour":
        """Return the behaviour that `to_json` described.

        Raises:
            InputError: if it is none.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("tolerance"), float):
            raise InputError("behaviour: not as dfshield writes it")
        answers = [_unpacked(values.get(mode), num_classes) for mode in ("eval", "train")]
        return cls(answers[0], answers[1], float(values["tolerance"]))


def observe(network: nn.Module, images: Float[Tensor, "n c h w"]) -> Behaviour:
    """Return the behaviour of a network, which is left as it is; computed on the CPU, on copies.

    Args:
        network: takes normalised images, returns logits.
        images: the normalised probe images, on the CPU.
    """
    low = dtype_of(network) in (torch.float16, torch.bfloat16)
    answers: list[Answers] = []
    for training in (False, True):
        try:
            first, second = (_answers(network, images, training) for _ in range(2))
        except Exception:  # noqa: BLE001  code of others fails in any way; eval mode is checked elsewhere
            answers.append(None)
            continue
        low = low or first.dtype in (torch.float16, torch.bfloat16)
        one, again = first.float(), second.float()
        answers.append(one if same_logits(one, again) else None)
    return Behaviour(answers[0], answers[1], LOW_PRECISION if low else SAME_LOGITS)


def _answers(network: nn.Module, images: Tensor, training: bool) -> Tensor:
    """Return a copy's answers, in the type in which they come."""
    twin = copy.deepcopy(network).cpu().train(training)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the last bits, depend on it
    try:
        with torch.no_grad(), torch_generators(_SEED, torch.device("cpu")):
            return answer_of(twin, images)
    finally:
        torch.set_num_threads(threads)


def _same(first: Answers, second: Answers, tolerance: float) -> bool:
    if first is None or second is None:
        return first is second
    return same_logits(first, second, tolerance=tolerance)


def _packed(answers: Answers) -> str | None:
    if answers is None:
        return None
    return base64.b64encode(answers.numpy().astype("<f4").tobytes()).decode()


def _unpacked(text: object, num_classes: int) -> Answers:
    if text is None:
        return None
    try:
        values = np.frombuffer(base64.b64decode(str(text), validate=True), dtype="<f4")
        return torch.from_numpy(values.reshape(NUM_PROBES, num_classes).astype(np.float32))
    except ValueError:
        raise InputError("behaviour: damaged") from None

"""The canary of a training: a mini-batch that tells whether its workers compute the same bytes.

Every worker of a group makes its digest before the first update, and before the first update of
every group that goes on; the checkpoint keeps it. GPUs that come to another one would give a
student that depends on who computes what: the training is refused. CPUs go on, and the user is told
once.
"""

import os
from dataclasses import dataclass

from dfshield.engine.numerics import accelerator_of
from dfshield.errors import OtherDeviceError
from dfshield.runs.execution.protocol import GroupWorker
from dfshield.runs.work.canary import DIFFERS, digest_of
from dfshield.storage import SurrogateTensors
from dfshield.training import AdversarialTrainer
from dfshield.training.trial import TrialImages, at_images, attacked


@dataclass(frozen=True)
class TrainingCanary:
    """What a worker computes of the first mini-batch.

    Attributes:
        digest: SHA-256 of its adversarial images, gradient, losses and statistics.
        place: the worker's GPU, or its machine, for people.
        on_gpu: whether it is a GPU.
    """

    digest: str
    place: str
    on_gpu: bool

    @classmethod
    def of(
        cls, trainer: AdversarialTrainer, images: SurrogateTensors, *, size: int
    ) -> "TrainingCanary":
        """Return that of this process; all workers of a training have the same trainer.

        Args:
            trainer: at the beginning of the training. It is left as it is.
            images: that are trained on.
            size: of a mini-batch, for which kernels are chosen.
        """
        device = trainer.passes.device
        columns = (images.images, images.labels, images.teacher_logits)
        pixels, labels, logits = (column[:size].to(device) for column in columns)
        batch = TrialImages(trainer.passes.pixels(pixels), labels, logits, size)
        adversarial = attacked(trainer, batch, 0)
        found = at_images(trainer, batch, adversarial)
        gpu = accelerator_of(device)
        host = os.uname().nodename
        return cls(
            digest_of([adversarial, found.gradient, found.terms, found.statistics]),
            f"the processor of {host}" if gpu is None else f"{gpu.format()} on {host}",
            on_gpu=gpu is not None,
        )


def agreed_canary(own: TrainingCanary, kept: str | None, worker: GroupWorker) -> str:
    """Return the digest that a training goes by; all workers of the group call it together.

    Args:
        own: what this worker computes.
        kept: the digest that the training was begun with; None if it begins, is replanned, or was
            begun by an older version: then it is that of the first worker.
        worker: this process.

    Raises:
        OtherDeviceError: on every worker, if a GPU computes other numbers.
    """
    found: list[TrainingCanary] = worker.group.all_gather(own)
    digest = kept or found[0].digest
    others = sorted({one.place for one in found if one.digest != digest})
    if not others:
        return digest
    told = f"{', '.join(others)}: computes other numbers than "
    told += "the one that the training was begun on" if kept else f"{found[0].place}"
    if any(one.on_gpu for one in found):
        raise OtherDeviceError(
            f"{told}, so the student would depend on who computes what (the canary of the training "
            "differs): use GPUs of one model and driver, or go on with these alone with --replan"
        )
    worker.monitor.emit(DIFFERS, device=", ".join(others))
    worker.monitor.say(f"{told}: the student is not, to the byte, what equal machines would make")
    return digest

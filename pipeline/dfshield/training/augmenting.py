"""Images of a training as they are trained on: changed at random, with the teacher's answers."""

from collections.abc import Sequence

import torch
from torch import nn

from dfshield.classifiers import float32_logits, frozen
from dfshield.errors import InputError
from dfshield.pixels import as_floats
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators
from dfshield.training.augmentations import Augmentation
from dfshield.training.image_batches import ImageBatch
from dfshield.training.requirements import require_kind

AUGMENTATION_DRAWS = 1 << 28
"""Mini-batch index from which augmentations draw: beyond any real one."""


class Augmenter:
    """Changes the images of a mini-batch by augmentations, one after the other.

    What it does depends on the seed, the epoch and the mini-batch's number alone. The teacher is
    asked for its logits of images that came out other than they were stored; of the rest, the
    stored ones are used.

    Args:
        augmentations: in their order.
        teacher: gives the logits, in eval mode, on the device of the mini-batches.
        image_shape: (c, h, w).
        seed: the run's seed.

    Raises:
        InputError: if there is no teacher to ask, or an augmentation leaves nothing of the images.
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        teacher: nn.Module | None,
        *,
        image_shape: tuple[int, ...],
        seed: int,
    ) -> None:
        for augmentation in augmentations:
            require_kind(augmentation, Augmentation, "augmentations")
            augmentation.require_fits(image_shape)
        if teacher is None:
            raise InputError("teacher: is needed, for its logits of what augmentations change")
        require_kind(teacher, nn.Module, "teacher")
        self._augmentations = list(augmentations)
        self._teacher = teacher
        self._seed = seed

    def __call__(self, batch: ImageBatch, epoch: int) -> ImageBatch:
        """Return a mini-batch of an epoch as it is trained on, its images as floats in [0, 1]."""
        place = (self._seed, RngStream.TRAINING, epoch, AUGMENTATION_DRAWS + batch.number)
        draws = generator(*place)
        stored = images = as_floats(batch.images)
        labels = batch.labels
        for augmentation in self._augmentations:
            images, labels = augmentation(images, labels, generator=draws)
        changed = (images != stored).flatten(1).any(dim=1)
        logits = batch.teacher_logits
        if changed.any():
            device = images.device
            draw = torch_generators(derived_seed(*place), device)
            with frozen(self._teacher), torch.no_grad(), draw:
                asked = float32_logits(self._teacher, images[changed])
            logits = logits.clone()
            logits[changed] = asked.to(logits.dtype)
        return batch._replace(images=images, labels=labels, teacher_logits=logits)

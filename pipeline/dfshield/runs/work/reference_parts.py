"""Real images in the form in which a training takes surrogate ones: parts with teacher's logits."""

import numpy as np
import torch

from dfshield.classifiers import Classifier, float32_logits, frozen
from dfshield.runs.inputs.reference_images import ReferenceSet
from dfshield.storage import ImageDtype, Manifest, Part, PartArrays, SurrogateReader, plan_parts

_PART_SIZE = 500
"""Images that the teacher answers together: whoever reads them, its logits are the same."""


class ReferenceReader(SurrogateReader):
    """Reads real images part by part, and asks the teacher for its logits of them.

    There is no hold-out. Nothing of them is written.

    Args:
        images: themselves.
        teacher: the classifier that is hardened, on the device that it is asked on.
        seed: of the training.
    """

    def __init__(self, images: ReferenceSet, teacher: Classifier, *, seed: int) -> None:
        self._images = images
        self._teacher = teacher
        stored = images.as_stored and images.images.pixels.dtype == np.uint8
        self._dtype: ImageDtype = "uint8" if stored else "float32"
        self.manifest = Manifest(
            format_version=2,
            identity={},
            teacher_fingerprint="",
            image_shape=images.input_shape,
            image_dtype=self._dtype,
            num_classes=teacher.num_classes,
            class_names=teacher.class_names,
            seed=seed,
            batch_size=1,
            part_size=_PART_SIZE,
            shard_size=_PART_SIZE,
            columns={},
            engine={},
            parts=plan_parts(
                (),
                split="data",
                num_images=len(images),
                batch_size=1,
                part_size=_PART_SIZE,
                shard_size=_PART_SIZE,
            ),
        )

    def read(self, part: Part) -> PartArrays:
        """Return the images of a part with their labels, and the teacher's logits of them."""
        rows = slice(part.first_batch, part.first_batch + part.num_images)
        pixels = self._images.pixels(rows)
        device = next(self._teacher.parameters()).device
        with frozen(self._teacher), torch.no_grad():
            logits = float32_logits(self._teacher, pixels.to(device)).cpu().numpy()
        labels = self._images.images.labels[rows] if self._images.hard else logits.argmax(axis=1)
        return PartArrays(
            images=self._stored(rows) if self._dtype == "uint8" else pixels.numpy(),
            labels=labels.astype(np.int64),
            teacher_logits=logits,
            batch=np.arange(rows.start, rows.stop),
            seed=np.full(part.num_images, self.manifest.seed),
            columns={},
        )

    def _stored(self, rows: slice) -> np.ndarray:
        channels_first = self._images.images.pixels[rows].transpose(0, 3, 1, 2)
        return np.ascontiguousarray(channels_first)

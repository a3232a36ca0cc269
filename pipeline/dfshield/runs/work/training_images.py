"""The surrogate images of a training: one copy for all of its workers on a machine."""

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config
from dfshield.errors import DfshieldError
from dfshield.runs.execution.protocol import GroupWorker
from dfshield.runs.inputs.reference_images import reference_set
from dfshield.runs.work.reference_parts import ReferenceReader
from dfshield.storage import (
    Part,
    Split,
    SurrogateDataset,
    SurrogateReader,
    SurrogateTables,
    SurrogateTensors,
    TensorFile,
    TensorLayout,
)

GPU_SHARE = 0.4
"""How much of a GPU's free memory images may take; the rest is for the passes."""


class _Shared(NamedTuple):
    """What a worker shares with others of the group.

    Attributes:
        file: holds the images of its machine; None where none can be made.
        ranks: the workers that map this file, in order.
        on_gpu: how many workers compute on this worker's GPU.
    """

    file: TensorFile | None
    ranks: list[int]
    on_gpu: int


def training_reader(
    config: Config,
    teacher: Classifier,
    *,
    seed: int,
    data: str | None,
    refs: Mapping[str, object],
    get: Callable[[object], Any],
) -> SurrogateReader:
    """Return the reader of what a student is trained on.

    Args:
        config: of the run.
        teacher: of the run, which is asked for its logits of real images.
        seed: of the training.
        data: the folder of the surrogate data set; None for a reference on real images.
        refs: object references of those of its parts that no file holds, by path.
        get: returns the object that a reference refers to.
    """
    reference = config.training.images
    if data is None:
        assert reference is not None
        return ReferenceReader(reference_set(reference, teacher), teacher, seed=seed)
    dataset = SurrogateDataset.open(data)
    if not refs:
        return dataset
    return SurrogateTables(dataset.manifest, lambda part: get(refs[part.path]))


def training_images(
    reader: SurrogateReader, split: Split, *, num_images: int | None = None, worker: GroupWorker
) -> SurrogateTensors:
    """Return the first images of a split (None: all) for a training; all workers call it together.

    Those of one machine read and check every part once, between them, into a temporary file that
    each of them maps. So there is one copy, whose pages the system drops and reads again where
    memory is short, and there may be more images than memory. Images that fit onto a worker's GPU
    are copied there; others stay in main memory, from which they are gathered one pass ahead. Where
    the temporary folder has no room, every worker keeps its own copy.

    Raises:
        PartError: on all workers, when a part is missing or does not verify.
        InputError: if fewer images are planned.
    """
    group, device = worker.group, worker.device
    placed = reader.placed(split, num_images)
    if not placed:
        return reader.load(split, num_images=num_images, device=device)
    layout = TensorLayout(reader.manifest, num_images=placed[-1][1].stop)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    with ExitStack() as stack:
        file, ranks, on_gpu = _shared(layout, worker, stack)
        fits_gpu = layout.nbytes * on_gpu <= GPU_SHARE * free
        kept_on = device if fits_gpu else torch.device("cpu")
        direct = fits_gpu and len(ranks) == 1
        share = placed[ranks.index(group.rank) :: len(ranks)]
        problems = group.all_gather(None if direct else _written(file, reader, share))
        for problem in problems:
            if isinstance(problem, DfshieldError):
                raise problem
        if any(problems):
            worker.monitor.say(
                f"No room for {layout.nbytes / 2**30:.2f} GiB of images in the temporary folder of "
                "a machine (TMPDIR): each of its workers keeps them in memory"
            )
        if file is None or direct or any(problems[rank] for rank in ranks):
            return reader.load(split, num_images=num_images, device=kept_on)
        tensors = file.tensors()
    columns = (tensors.images, tensors.labels, tensors.teacher_logits)
    return SurrogateTensors(*(column.to(kept_on) for column in columns))


def _shared(layout: TensorLayout, worker: GroupWorker, stack: ExitStack) -> _Shared:
    """Find the file that the first worker of this machine has made, and who else maps it."""
    group = worker.group
    own = _created(layout, stack)
    addresses = group.all_gather(None if own is None else own.address)
    owner, file = group.rank, own
    for rank, address in enumerate(addresses):
        found = own.at(address) if own is not None and address is not None else None
        if found is not None:
            owner, file = rank, stack.enter_context(closing(found))
            break
    gpu = ""
    if worker.device.type == "cuda":
        gpu = str(torch.cuda.get_device_properties(worker.device).uuid)
    told = group.all_gather((owner, gpu))
    ranks = [rank for rank, (other, _) in enumerate(told) if other == owner]
    return _Shared(file, ranks, on_gpu=sum(other == gpu for _, other in told))


def _created(layout: TensorLayout, stack: ExitStack) -> TensorFile | None:
    try:
        return stack.enter_context(TensorFile.create(layout))
    except OSError:
        return None


def _written(
    file: TensorFile | None, reader: SurrogateReader, placed: list[tuple[Part, slice]]
) -> Exception | None:
    """Write these parts into the file; return why that failed, if it did."""
    if file is None or not file.address.has_room:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        for part, rows in placed:
            file.write(rows, reader.read(part))
    except (DfshieldError, OSError) as error:
        return error
    return None

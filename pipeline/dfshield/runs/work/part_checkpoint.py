"""What is done of a part that is not committed yet, kept so that an interruption costs less."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields

import torch

from dfshield.canonical import identity_hash
from dfshield.errors import DfshieldError
from dfshield.runs.names import UNFINISHED
from dfshield.storage import Checkpoint, Folder, Manifest, Part, PartArrays
from dfshield.synthesis import InversionState


@dataclass(frozen=True, eq=False)
class PartState:
    """Where a part stands: the batches that are done, and the state of the one after them."""

    batches: list[PartArrays] = field(default_factory=list)
    inversion: InversionState | None = None

    @property
    def begun(self) -> bool:
        """Whether anything has been done."""
        return bool(self.batches) or self.inversion is not None


class PartCheckpoint:
    """The checkpoint of one unfinished part, in the folder ``unfinished`` of the data set.

    Args:
        folder: the data set.
        manifest: its plan; a checkpoint made under another identity or engine is passed over.
        part: which part.
        every: how many iterations lie between two checkpoints; None: keep none without a hurry.
        preempted: whether this machine is about to be taken away; then one is kept at once.
    """

    def __init__(
        self,
        folder: Folder,
        manifest: Manifest,
        part: Part,
        *,
        every: int | None,
        preempted: Callable[[], bool],
    ) -> None:
        self._file = Checkpoint(
            folder.child(UNFINISHED),
            f"{part.split}-{part.shard:05d}-{part.index:04d}.pt",
            holds="part of a surrogate data set",
            keys=("key", "batches", "inversion"),
        )
        self._key = identity_hash(
            {
                "format_version": self._file.version,
                "identity": manifest.identity,
                "engine": manifest.engine,
                "part": part.model_dump(),
            }
        )
        self._every = every
        self._preempted = preempted
        self._hurried = False

    def load(self) -> PartState:
        """Return the state that was kept last; the beginning if none was that can be used."""
        with suppress(DfshieldError):
            kept = self._file.load()
            if kept is not None and kept["key"] == self._key:
                inversion = kept["inversion"]
                return PartState(
                    [
                        PartArrays(**{name: values.numpy() for name, values in batch.items()})
                        for batch in kept["batches"]
                    ],
                    None if inversion is None else InversionState(**inversion),
                )
        return PartState()

    def after_iteration(
        self, done: int, batches: Sequence[PartArrays], state: Callable[[], InversionState]
    ) -> None:
        """Keep the state if it is time to.

        Args:
            done: how many iterations of the whole part are done.
            batches: the batches that are done.
            state: tells that of the batch at work.
        """
        hurry = not self._hurried and self._preempted()
        if hurry or (self._every is not None and done % self._every == 0):
            self._hurried = self._hurried or hurry
            self._save(batches, state())

    def _save(self, batches: Sequence[PartArrays], state: InversionState) -> None:
        kept = {
            "key": self._key,
            "batches": [
                {c.name: torch.from_numpy(getattr(batch, c.name)) for c in fields(PartArrays)}
                for batch in batches
            ],
            "inversion": {f.name: getattr(state, f.name) for f in fields(InversionState)},
        }
        self._file.save(kept)

    def delete(self) -> None:
        """Forget the part, which is committed."""
        self._file.delete()

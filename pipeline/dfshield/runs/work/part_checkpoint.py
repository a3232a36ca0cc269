"""What is done of a part that is not committed yet, kept so that an interruption costs less."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from dfshield.canonical import identity_hash
from dfshield.errors import DfshieldError
from dfshield.runs.names import UNFINISHED
from dfshield.storage import Checkpoint, Folder, Manifest, Part, PartArrays
from dfshield.synthesis import BatchState


@dataclass(frozen=True, eq=False)
class PartState:
    """Where a part stands: the batches that are done, and the state of the pass after them."""

    batches: list[PartArrays] = field(default_factory=list)
    unfinished: BatchState | None = None

    @property
    def begun(self) -> bool:
        """Whether anything has been done."""
        return bool(self.batches) or self.unfinished is not None


class PartCheckpoint:
    """The checkpoint of one unfinished part, in the folder ``unfinished`` of the data set.

    Args:
        folder: the data set.
        manifest: its plan; a checkpoint made under another identity or engine is passed over.
        part: which part.
        state_type: the state of an unfinished pass; see `Synthesizer`.
        every: how many iterations lie between two checkpoints; None: keep none without a hurry.
        preempted: whether this machine is about to be taken away; then one is kept at once.
    """

    def __init__(
        self,
        folder: Folder,
        manifest: Manifest,
        part: Part,
        *,
        state_type: type[BatchState] | None,
        every: int | None,
        preempted: Callable[[], bool],
    ) -> None:
        self._file = Checkpoint(
            folder.child(UNFINISHED),
            f"{part.split}-{part.shard:05d}-{part.index:04d}.pt",
            holds="part of a surrogate data set",
            keys=("key", "batches", "state"),
            version=2,
        )
        self._key = identity_hash(
            {
                "format_version": self._file.version,
                "identity": manifest.identity,
                "engine": manifest.engine,
                "part": asdict(part),
            }
        )
        self._state_type = state_type
        self._every = every
        self._preempted = preempted
        self._hurried = False

    def load(self) -> PartState:
        """Return the state that was kept last; the beginning if none was that can be used."""
        with suppress(DfshieldError):
            kept = self._file.load()
            if self._state_type and kept is not None and kept["key"] == self._key:
                batches = [_as_arrays(batch) for batch in kept["batches"]]
                return PartState(batches, self._state_type(**kept["state"]))
        return PartState()

    def after_iteration(
        self, done: int, batches: Sequence[PartArrays], state: Callable[[], BatchState]
    ) -> None:
        """Keep the state if it is time to.

        Args:
            done: how many iterations of the whole part are done.
            batches: the batches that are done.
            state: returns that of the pass at work.
        """
        hurry = not self._hurried and self._preempted()
        if hurry or (self._every is not None and done % self._every == 0):
            self._hurried = self._hurried or hurry
            self._save(batches, state())

    def _save(self, batches: Sequence[PartArrays], state: BatchState) -> None:
        kept = {
            "key": self._key,
            "batches": [_as_tensors(batch) for batch in batches],
            "state": {f.name: getattr(state, f.name) for f in fields(state)},
        }
        self._file.save(kept)

    def delete(self) -> None:
        """Forget the part, which is committed."""
        self._file.delete()


def _as_tensors(batch: PartArrays) -> dict[str, Any]:
    columns = {name: torch.from_numpy(values) for name, values in batch.columns.items()}
    common = [column.name for column in fields(PartArrays) if column.name != "columns"]
    return {
        **{name: torch.from_numpy(getattr(batch, name)) for name in common},
        "columns": columns,
    }


def _as_arrays(kept: Mapping[str, Any]) -> PartArrays:
    columns = {name: values.numpy() for name, values in kept["columns"].items()}
    common = {name: values.numpy() for name, values in kept.items() if name != "columns"}
    return PartArrays(**common, columns=columns)

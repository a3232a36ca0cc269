"""Verifying surrogate data: every part by its checksum, a sample of images by making them again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from dfshield.config import EngineConfig, SynthesisConfig
from dfshield.errors import InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import planned_engine, resumed_engine
from dfshield.runs.execution.protocol import Executor, Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import recorded_synthesis
from dfshield.runs.layout import surrogate_folders
from dfshield.runs.names import TEACHER
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer, RunMonitor, SilentMonitor
from dfshield.runs.work.resynthesis import ResynthesisTask, SampledBatch
from dfshield.seeds import RngStream, generator
from dfshield.storage import (
    Folder,
    Manifest,
    Part,
    SurrogateDataset,
    VerifyReport,
    by_shard,
    check_part,
    part_engine,
    verify,
)


@dataclass(frozen=True)
class CheckTask:
    """Reads parts of a data set whole and says what is wrong with each; a unit is a `Part`.

    Attributes:
        data: the folder of the data set.
    """

    data: str

    def prepare(self, worker: Worker) -> Callable[[Part], str | None]:
        """Read the manifest."""
        del worker  # nothing is computed
        data = SurrogateDataset.open(self.data)
        return partial(check_part, data.folder, data.manifest)

    def label(self, unit: Part) -> str:
        """Return how people call a part."""
        return unit.path


def verify_run(location: str, *, executor: Executor, observer: Observer) -> list[VerifyReport]:
    """Verify the surrogate data of a run folder, of every seed, or a single data set.

    Args:
        location: the folder.
        executor: whose workers read the parts.
        observer: is told how it goes.

    Raises:
        InputError: if there is none.
    """

    def problems(data: SurrogateDataset) -> dict[Part, str]:
        parts = data.manifest.parts
        found: dict[Part, str] = {}
        observer.begin("Checking", total=len(parts), done=0, unit="parts")
        for done in executor.map(
            CheckTask(data.folder.uri),
            by_shard(parts),
            engine=executor.engine(),
            monitor=SilentMonitor(),
        ):
            observer.advance(1.0)
            if done.result is not None:
                found[done.unit] = done.result
        observer.end()
        return found

    return [verify(data, problems) for data in surrogate_folders(location)]


def discard(
    run: Folder, reports: Sequence[VerifyReport], compared: Sequence["Resynthesis"] = ()
) -> None:
    """Delete the parts that were found broken or to differ; the log of the run keeps why."""
    log = EventLog(run)
    broken = [
        (report.location, part.path, part.reason)
        for report in reports
        for part in report.parts
        if part.verdict == "broken"
    ]
    broken += [
        (comparison.location, path, "not what the engine makes")
        for comparison in compared
        for path in {path for path, _ in comparison.differing}
    ]
    for location, path, reason in broken:
        log.emit("part_broken", path=path, problem=reason)
        Folder.at(location).delete(path)
    log.flush()


@dataclass(frozen=True)
class Resynthesis:
    """How a sample of images compares with the same images made again.

    Attributes:
        location: the data set.
        num_images: how many were compared.
        num_batches: how many batches were made again for that.
        differing: the images that differ in pixels, label or logits: path of the part, row.
    """

    location: str
    num_images: int
    num_batches: int
    differing: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        differing = [{"part": part, "image": row} for part, row in self.differing]
        return {**vars(self), "differing": differing, "ok": not self.differing}


def resynthesize(
    location: str,
    reports: Sequence[VerifyReport],
    num_images: int,
    *,
    executor: Executor,
    observer: Observer,
) -> list[Resynthesis]:
    """Make a sample of a run's images again and compare them, byte for byte.

    The images are drawn at random from the parts that verify, always the same ones. An image is
    optimised together with its batch, so whole batches are made again.

    Args:
        location: a run folder, which holds the teacher beside the data.
        reports: what `verify_run` found there.
        num_images: how many images of each data set.
        executor: whose workers make them.
        observer: is told how it goes.

    Raises:
        InputError: if there is no teacher, it is another one, or the workers cannot compute under
            the engine that the images were made with.
        OtherDeviceError: if no worker computes the bytes that the images were begun with, so that
            a difference would say nothing about them.
    """
    teacher = load_classifier(Folder.at(location).child(TEACHER))
    fingerprint = teacher.fingerprint()
    return [
        _resynthesized(location, fingerprint, report, num_images, executor, observer)
        for report in reports
    ]


def _resynthesized(
    location: str,
    fingerprint: str,
    report: VerifyReport,
    num_images: int,
    executor: Executor,
    observer: Observer,
) -> Resynthesis:
    data = SurrogateDataset.open(report.location)
    manifest = data.manifest
    if fingerprint != manifest.teacher_fingerprint:
        raise InputError(f"{data.folder} was made from another teacher than the one beside it")
    sample, settings = _sample(manifest, report, num_images), _settings(data)
    observer.begin("Synthesizing again", total=len(sample), done=0, unit="batches")
    differing: list[tuple[Part, int]] = []
    for engine, units in _by_engine(data.folder, sample, executor.engine()).items():
        task = ResynthesisTask(
            Folder.at(location).child(TEACHER).uri, data.folder.uri, settings, engine
        )
        groups = [list(of_part) for _, of_part in groupby(units, key=lambda unit: unit.part)]
        monitor = RunMonitor(SilentMonitor(), observer)
        for done in executor.map(task, groups, engine=engine, monitor=monitor):
            differing += [(done.unit.part, row) for row in done.result]
            observer.advance(1.0)
    observer.end()
    place = {part: index for index, part in enumerate(manifest.parts)}
    differing.sort(key=lambda found: (place[found[0]], found[1]))
    return Resynthesis(
        str(data.folder),
        sum(len(unit.rows) for unit in sample),
        len(sample),
        tuple((part.path, row) for part, row in differing),
    )


def _by_engine(
    folder: Folder, sample: Sequence[SampledBatch], here: Engine
) -> dict[Engine, list[SampledBatch]]:
    """Return batches by the engine that made their part.

    Raises:
        InputError: if there is none of them here.
    """
    found: dict[Engine, list[SampledBatch]] = {}
    for part, units in groupby(sample, key=lambda unit: unit.part):
        bound = part_engine(folder, part)
        as_begun = planned_engine(here, EngineConfig(), work=0.0, bound=bound)
        engine = resumed_engine(as_begun, bound, where=folder, replan=False)
        found.setdefault(engine, []).extend(units)
    return found


def _sample(manifest: Manifest, report: VerifyReport, num_images: int) -> list[SampledBatch]:
    """Return rows of parts that verify, in their order."""
    valid = {part.path for part in report.parts if part.verdict == "ok"}
    images = [
        (part, row)
        for part in manifest.parts
        if part.path in valid
        for row in range(part.num_images)
    ]
    draw = generator(manifest.seed, RngStream.VERIFICATION)
    chosen = draw.choice(len(images), min(num_images, len(images)), replace=False)
    sample: dict[tuple[Part, int], list[int]] = {}
    for index in sorted(chosen.tolist()):
        part, row = images[index]
        batch = part.first_batch + row // manifest.batch_size
        sample.setdefault((part, batch), []).append(row)
    return [SampledBatch(part, batch, tuple(rows)) for (part, batch), rows in sample.items()]


def _settings(data: SurrogateDataset) -> SynthesisConfig:
    try:
        settings = recorded_synthesis(data.manifest.identity)
        return settings.model_copy(update={"data": data.manifest.source})
    except InputError as error:
        raise InputError(f"{data.folder}: {error}") from None

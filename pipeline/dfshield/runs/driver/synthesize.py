"""Making the surrogate data set, part by part."""

import time
from collections import Counter
from collections.abc import Callable

from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.runs.context import RunContext
from dfshield.runs.driver.canary import CanaryMonitor, wants_canary
from dfshield.runs.driver.parts_found import commit_fields, find_parts
from dfshield.runs.driver.synthesis_plan import (
    planned_manifest,
    planned_parts,
    synthesis_engine,
    synthesis_identity,
)
from dfshield.runs.driver.teacher import load_teacher, teacher_fingerprint
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import resumed_engine
from dfshield.runs.export.card import keep_card
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.names import GENERATOR, UNFINISHED
from dfshield.runs.records import Record, claim, damage, finish
from dfshield.runs.work.diversity import measured_diversity
from dfshield.runs.work.generator import FitJob, fingerprint_of
from dfshield.runs.work.shard_summaries import ShardSummaries, summary_files
from dfshield.runs.work.synthesis import SynthesisTask
from dfshield.storage import (
    MANIFEST,
    Folder,
    Manifest,
    Part,
    SurrogateDataset,
    SurrogateReader,
    SurrogateTables,
    by_shard,
    read_manifest,
    write_manifest,
)
from dfshield.synthesis import FittedSynthesizer

SECONDS_BETWEEN_FLUSHES = 1.0
"""How often the log goes out at most while parts are committed, where lines are collected."""


def make_images(context: RunContext, seed: int) -> None:
    """Make every planned part that is not there, then the shards' summaries and the card.

    A synthesizer with a generator has it fitted first, by one job whose result stays.

    Of a set that is done, names and sizes of the files are looked at, and nothing is opened but its
    record and its manifest. Of one that is not, `find_parts` tells which parts are there: of those
    that the log of the run vouches for, little more than the footer is read. With the sink
    ``object_store`` a set that is not complete in the folder is made whole, and ``context.refs``
    refers to its parts for the training of this run.

    Args:
        context: the run; its ``replan`` lets a data set that was begun under another engine go on
            under this machine's.
        seed: which of its seeds.

    Raises:
        InputError: if the data set in the run folder has another identity or engine.
    """
    folder = context.layout.synthetic(seed)
    identity = synthesis_identity(context.config, teacher_fingerprint(context), seed)
    record = claim(folder, identity)
    old = read_manifest(folder) if folder.exists(MANIFEST) else None
    if old is not None and _is_complete(context.config, folder, record, old):
        return
    teacher = load_teacher(context)
    manifest = planned_manifest(context, old, teacher, seed, identity)
    sink = context.config.storage.sink
    found = find_parts(context, folder, record, manifest)
    todo = found.todo
    if todo and sink == "object_store":
        todo = list(manifest.parts)
    if todo and old is not None:
        here = synthesis_engine(
            context.config.synthesis, teacher, context.executor.engine(), bound=old.engine
        )
        replan = context.replan or sink == "object_store"  # of which nothing stays
        engine = resumed_engine(here, old.engine, where=folder, replan=replan)
        manifest = manifest.model_copy(update={"engine": engine.to_json()})
    if manifest != old:
        write_manifest(folder, manifest)
    if todo and isinstance(synthesizer_of(context.config.synthesis), FittedSynthesizer):
        manifest = _with_generator(context, folder, manifest, todo)
    data = _reader(context, folder, manifest, todo)
    summaries = ShardSummaries(folder, data, agreeing=found.agreeing, todo=todo)
    if todo:
        _make(context, folder, manifest, todo, summaries)
    summaries.write_others()
    if sink == "parquet" or not todo:
        keep_card(folder, manifest)
    if todo or not record["done"]:
        diversity = measured_diversity(
            context.config.synthesis.diversity,
            data,
            load_teacher=lambda: teacher,
            observer=context.observer,
        )
        present = folder.sizes()
        files = [name for name in _files(manifest) if name in present]
        finish(folder, record, *files, sink=sink, diversity=diversity)


def _files(manifest: Manifest) -> list[str]:
    """Return what a data set that is done consists of, beside its manifest and its record."""
    return [*(part.path for part in manifest.parts), *summary_files(manifest)]


def _is_complete(config: Config, folder: Folder, record: Record, manifest: Manifest) -> bool:
    """Return whether a data set is done, holds what is wanted now, and has its files."""
    return (
        record["done"]
        and planned_parts(config, manifest) == manifest.parts
        and not damage(folder, record, _files(manifest))
    )


def _with_generator(
    context: RunContext, folder: Folder, manifest: Manifest, todo: list[Part]
) -> Manifest:
    """Return the manifest with the fingerprint of its generator, which is fitted where it is not.

    Raises:
        InputError: if parts were made with another generator.
    """
    fitted = fingerprint_of(folder)
    if fitted is None:
        job = FitJob(context.layout.teacher.uri, folder.uri, context.config.synthesis)
        engine = Engine.from_json(manifest.engine)
        fitted = context.executor.run(job, engine=engine, monitor=context.monitor)
    if manifest.generator == fitted:
        return manifest
    if manifest.generator is not None and len(todo) < len(manifest.parts):
        raise InputError(
            f"{folder}: its parts were made with the generator {manifest.generator[:12]}, but "
            f"{folder}/{GENERATOR} holds {fitted[:12]}: restore it, or delete {folder} to start "
            "afresh"
        )
    manifest = manifest.model_copy(update={"generator": fitted})
    write_manifest(folder, manifest)
    return manifest


def _make(
    context: RunContext,
    folder: Folder,
    manifest: Manifest,
    todo: list[Part],
    summaries: ShardSummaries,
) -> None:
    observer, log, seed = context.observer, context.log, manifest.seed
    folder.sweep_temporary()  # what a killed process was writing
    engine = Engine.from_json(manifest.engine)
    total = sum(part.num_images for part in manifest.parts)
    done = total - sum(part.num_images for part in todo)
    task = SynthesisTask(
        teacher=context.layout.teacher.uri,
        data=folder.uri,
        synthesis=context.config.synthesis.model_copy(update={"data": manifest.source}),
        sink=context.config.storage.sink,
        new_canary=wants_canary(context, manifest, begins=len(todo) == len(manifest.parts)),
    )
    log.emit("synthesis_started", seed=seed, images=done, total=total)
    observer.begin("Synthesizing", total=total, done=done, unit="images")
    whole_shards = _shard_counter(manifest, todo)
    refs = context.refs.setdefault(seed, {})
    flushed = time.monotonic() - SECONDS_BETWEEN_FLUSHES
    monitor = CanaryMonitor(context, folder, manifest)
    for made in context.executor.map(task, by_shard(todo), engine=engine, monitor=monitor):
        part, result = made.unit, made.result
        if made.ref is not None:
            refs[part.path] = made.ref
        log.emit(
            "part_committed" if task.sink == "parquet" else "part_made",
            **commit_fields(manifest, part, result.commit, result.agreeing),
            seconds=round(result.seconds, 3),
            **result.losses,
            worker=made.worker,
        )
        if time.monotonic() - flushed >= SECONDS_BETWEEN_FLUSHES:
            log.flush()  # a part that the log lacks would be read whole by a resumed driver
            flushed = time.monotonic()
        summaries.made(part, result.labels, result.agreeing)
        observer.detail(whole_shards(part))
    folder.child(UNFINISHED).remove()  # what was left by workers that died as they were done
    observer.end()
    log.emit("synthesis_done", seed=seed, images=total)


def _shard_counter(manifest: Manifest, todo: list[Part]) -> Callable[[Part], str]:
    """Return what takes note of a part that is made, and says how many shards are whole."""
    total = len({part.shard for part in manifest.split("data")})
    left = Counter(part.shard for part in todo if part.split == "data")

    def count(made: Part) -> str:
        left[made.shard] -= made.split == "data"
        if left[made.shard] <= 0:
            del left[made.shard]
        return f"{total - len(left)}/{total} shards"

    return count


def _reader(
    context: RunContext, folder: Folder, manifest: Manifest, todo: list[Part]
) -> SurrogateReader:
    """Return the reader of the set: of its files, or of the tables that are made in their place."""
    if not todo or context.config.storage.sink == "parquet":
        return SurrogateDataset(folder, manifest)
    refs = context.refs.setdefault(manifest.seed, {})
    return SurrogateTables(manifest, lambda part: context.executor.get(refs[part.path]))

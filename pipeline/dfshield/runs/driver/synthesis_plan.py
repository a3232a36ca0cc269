"""What a surrogate data set is to be: its identity, its engine, its manifest with all parts."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dfshield.classifiers import Classifier
from dfshield.config import Config, EngineConfig, SynthesisConfig
from dfshield.engine.trial import Trial
from dfshield.errors import InputError
from dfshield.runs.context import RunContext
from dfshield.runs.driver.engine_trial import Begun, TriedEngine, tried_engine
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import (
    Abilities,
    abilities_here,
    multiply_adds,
    planned_engine,
)
from dfshield.runs.identity import differences, identity_of, keys_of
from dfshield.runs.inputs.derived_images import require_source, source_of
from dfshield.runs.inputs.synthesizer import image_settings, synthesizer_of
from dfshield.runs.work.engine_trial import SynthesisTrialJob
from dfshield.storage import (
    MANIFEST,
    Manifest,
    Part,
    Split,
    format_of,
    plan_parts,
    read_manifest,
)


def synthesis_identity(config: Config, teacher_fingerprint: str, seed: int) -> dict[str, Any]:
    """Return everything that the surrogate images depend on.

    Raises:
        InputError: if they are to be derived from a set that they cannot be derived from.
    """
    if config.synthesis.augment is not None:
        require_source(
            source_of(config.synthesis), config.synthesis, teacher_fingerprint=teacher_fingerprint
        )
    return identity_of(
        "synthesis",
        teacher_fingerprint=teacher_fingerprint,
        seed=seed,
        **image_settings(config.synthesis),
        storage=keys_of(config.storage, ("image_dtype",)),
    )


def synthesis_engine(
    synthesis: SynthesisConfig,
    teacher: Classifier,
    here: Engine,
    *,
    bound: dict[str, Any] | None = None,
) -> Engine:
    """Return the engine that images are made with here, or were begun with.

    Raises:
        InputError: if a faster way is asked for that the synthesizer does not have.
    """
    work = _work(synthesis, teacher)
    return planned_engine(here, _engine_options(synthesis), work=work, bound=bound)


def tried_synthesis_engine(
    synthesis: SynthesisConfig,
    teacher: Classifier,
    here: Engine,
    *,
    try_ways: Callable[[Engine], Trial | None],
    say: Callable[[str], object],
    known: Iterable[Begun] = (),
    can: Callable[[], Abilities] = abilities_here,
) -> TriedEngine:
    """Return the engine that new images are made with here, by a trial where one is due.

    Args:
        synthesis: how images are made.
        teacher: of the run.
        here: the plain engine of this place.
        try_ways: see `tried_engine`.
        say: called with a line for the user.
        known: see `tried_engine`.
        can: see `planned_engine`.

    Raises:
        InputError: if a faster way is asked for that the synthesizer does not have.
    """
    options, work = _engine_options(synthesis), _work(synthesis, teacher)
    return tried_engine(
        here,
        planned_engine(here, options, work=work, can=can),
        options,
        work=work,
        try_ways=try_ways,
        say=say,
        known=known,
    )


def _work(synthesis: SynthesisConfig, teacher: Classifier) -> float:
    """Return the multiply-adds of all forward passes that making the images takes."""
    num_images = synthesis.num_images + synthesis.num_holdout
    return synthesizer_of(synthesis).work(num_images) * multiply_adds(teacher)


def _engine_options(synthesis: SynthesisConfig) -> EngineConfig:
    synthesizer = synthesizer_of(synthesis)
    if synthesizer.accelerated:
        return synthesis.engine
    return _without_acceleration(synthesis.engine, synthesizer.name)


def _without_acceleration(options: EngineConfig, name: str) -> EngineConfig:
    plain = {"precision": "float32", "compile": False}
    for key, value in plain.items():
        if getattr(options, key) not in ("auto", value):
            raise InputError(
                f"synthesis.engine.{key}: {name} is computed in float32 and is not compiled: leave "
                "it at auto"
            )
    return options.model_copy(update=plain)


def planned_manifest(
    context: RunContext,
    old: Manifest | None,
    teacher: Classifier,
    seed: int,
    identity: dict[str, Any],
) -> Manifest:
    """Return the manifest of a data set with all that is wanted now.

    Args:
        context: the run.
        old: the manifest that there is; None if the set begins.
        teacher: of the run.
        seed: which of its seeds.
        identity: of the images.
    """
    synthesis, storage = context.config.synthesis, context.config.storage
    if old is not None:
        engine, trial = old.engine, old.engine_trial
        if not differences(old.identity, identity):
            identity = old.identity  # by which its parts know where they belong
    else:  # the executor, which may start a cluster for it, is asked only where it has to be
        tried = _tried_by_a_worker(context, teacher, seed)
        engine, trial = tried.engine.to_json(), tried.trial
    columns = dict(synthesizer_of(synthesis).columns)
    return Manifest(
        format_version=format_of(columns),
        identity=identity,
        teacher_fingerprint=teacher.fingerprint(),
        image_shape=teacher.input_shape,
        image_dtype=storage.image_dtype,
        num_classes=teacher.num_classes,
        class_names=teacher.class_names,
        seed=seed,
        batch_size=synthesis.batch_size,
        part_size=old.part_size if old else storage.part_size,
        shard_size=old.shard_size if old else storage.shard_size,
        columns=columns,
        generator=old.generator if old else None,
        source=source_of(synthesis).folder.uri if synthesis.augment is not None else None,
        engine=engine,
        canary=old.canary if old else None,
        engine_trial=trial,
        parts=planned_parts(context.config, old),
    )


def _tried_by_a_worker(context: RunContext, teacher: Classifier, seed: int) -> TriedEngine:
    executor, synthesis = context.executor, context.config.synthesis

    def try_ways(plain: Engine) -> Trial | None:
        job = SynthesisTrialJob(
            context.layout.teacher.uri,
            synthesis,
            seed,
            num_workers=executor.num_workers(),
            part_size=context.config.storage.part_size,
        )
        return executor.run(job, engine=plain, monitor=context.monitor)

    return tried_synthesis_engine(
        synthesis,
        teacher,
        executor.engine(),
        try_ways=try_ways,
        say=context.observer.say,
        known=_begun(context, seed),
        can=executor.abilities,
    )


def _begun(context: RunContext, seed: int) -> Iterator[Begun]:
    """Give what the sets of the seeds before this one have begun with: of equal settings."""
    seeds = context.layout.seeds
    for one in seeds[: seeds.index(seed)]:
        folder = context.layout.synthetic(one)
        if folder.exists(MANIFEST):
            manifest = read_manifest(folder)
            yield manifest.engine, manifest.engine_trial


def planned_parts(config: Config, old: Manifest | None) -> tuple[Part, ...]:
    """Return the plan of a data set: what it has, and what is still wanted."""
    synthesis, storage = config.synthesis, config.storage
    sizes: dict[Split, int] = {"data": synthesis.num_images, "holdout": synthesis.num_holdout}
    parts = [
        part
        for split, num_images in sizes.items()
        for part in plan_parts(
            old.parts if old else (),
            split=split,
            num_images=num_images,
            batch_size=synthesis.batch_size,
            part_size=old.part_size if old else storage.part_size,
            shard_size=old.shard_size if old else storage.shard_size,
        )
    ]
    return tuple(parts)

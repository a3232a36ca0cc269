"""Writing the page of the run and the model card of every student."""

import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dfshield import __version__
from dfshield.baselines import BASELINES
from dfshield.config import Config, dump_config, expand
from dfshield.epsilon import parse_epsilon
from dfshield.runs.context import RunContext
from dfshield.runs.driver.evaluate import read_results
from dfshield.runs.driver.teacher import finished_teacher, load_teacher
from dfshield.runs.driver.train import trained_student
from dfshield.runs.inputs.classifier_folder import describe
from dfshield.runs.inputs.synthesizer import making_of
from dfshield.runs.names import PAGE
from dfshield.runs.records import read_record
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.watching.event_log import digested_events
from dfshield.runs.work.baseline import PICTURE
from dfshield.runs.work.diversity import shown_diversity
from dfshield.runs.work.history import kept_epoch, read_history
from dfshield.runs.work.shard_summaries import shard_picture, shard_summaries
from dfshield.storage import Folder, SurrogateDataset

if TYPE_CHECKING:  # it brings matplotlib, which workers can do without
    from dfshield.report import Section, SeedOutcome

PACKAGES = ("torch", "numpy", "pyarrow", "pyautoattack")


def write_report(context: RunContext) -> None:
    """Write ``report/index.html`` and ``student/README.md`` from what the run holds.

    Where no real image was measured they say so, and what is known all the same.

    Raises:
        InputError: if there is no student yet.
    """
    from dfshield.report import ReportData, render_model_card, render_page

    outcomes = tuple(_outcome(context, seed) for seed in context.layout.seeds)
    shared: dict[str, Any] = {
        "name": context.config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": _teacher(context),
        "threat": _threat(context.config),
        "config_yaml": dump_config(context.config),
        "versions": package_versions(),
    }
    page = render_page(ReportData(**shared, seeds=outcomes, sections=_sections(context)))
    context.layout.report.write_bytes(PAGE, page.encode())
    for outcome in outcomes:
        card = render_model_card(**shared, outcome=outcome)
        context.layout.student(outcome.seed).write_bytes("README.md", card.encode())
    context.log.emit("report")
    context.observer.say(f"Report: {context.layout.report}/{PAGE}")


def _outcome(context: RunContext, seed: int) -> "SeedOutcome":
    from dfshield.report import SeedOutcome

    student = trained_student(context, seed)
    results = read_results(context, seed)
    history = read_history(student)
    kept = kept_epoch(history, best=context.config.training.select == "holdout")
    record = read_record(student) or {}
    summary = record.get("summary", {})
    reference, baseline = summary.get("reference"), summary.get("baseline")
    return SeedOutcome(
        seed=seed,
        evaluations=tuple(result.model_dump(mode="json") for result in results),
        history=tuple(history),
        kept_epoch=None if kept is None else kept["epoch"],
        synthesis=_synthesis(context, seed) if context.config.surrogate else None,
        reference=reference,
        baseline=None if baseline is None else _baseline(student, baseline),
        engine_trial=record.get("engine_trial"),
    )


def _baseline(student: Folder, told: Mapping[str, Any]) -> dict[str, Any]:
    method = BASELINES[told["name"]]
    return {
        **told,
        "description": BASELINES.summary(method.name),
        "unusual": method.unusual,
        "picture": student.read_bytes(PICTURE),
    }


def _sections(context: RunContext) -> "tuple[Section, ...]":
    """Return what stages add to the page, seed by seed."""
    found = []
    for stage in STAGES.values():
        add, seeds = stage.section, context.layout.seeds
        if add is None:
            continue
        for seed in seeds if stage.per_seed else seeds[:1]:
            section = add(context, seed)
            if section is None:
                continue
            if stage.per_seed and len(seeds) > 1:
                section = replace(section, title=f"{section.title}, seed {seed}")
            found.append(section)
    return tuple(found)


def _synthesis(context: RunContext, seed: int) -> dict[str, Any]:
    config = context.config
    own = context.layout.synthetic(seed)
    reused = config.training.data
    data = SurrogateDataset.open(expand(reused, key="training.data") if reused else own)
    summaries = shard_summaries(data)
    num_images = sum(s["num_images"] for s in summaries)
    counts = zip(*(s["class_counts"] for s in summaries), strict=True)
    making = making_of(data.manifest.identity)
    return {
        "num_images": num_images,
        "method": making.name,
        "description": making.summary,
        "options": dict(making.options),
        "generator": data.manifest.generator,
        "teacher_agreement": sum(s["teacher_agreement"] * s["num_images"] for s in summaries)
        / num_images,
        "class_counts": [sum(of_class) for of_class in counts],
        "seconds": _synthesis_seconds(context.layout.root, seed),
        "engine_trial": data.manifest.engine_trial,
        "picture": shard_picture(data, 0),
        "diversity": shown_diversity(
            config.synthesis.diversity,
            data,
            load_teacher=lambda: load_teacher(context),
            observer=context.observer,
        ),
    }


def _synthesis_seconds(root: Folder, seed: int) -> float:
    made = (e for e in digested_events(root) if e["event"] in ("part_committed", "fit_done"))
    return sum((float(e.get("seconds", 0)) for e in made if e.get("seed") == seed), 0.0)


def _teacher(context: RunContext) -> dict[str, Any]:
    finished_teacher(context)
    described = describe(context.layout.teacher)
    return {
        "source": context.config.teacher.source,
        "architecture": described.architecture.source,
        "fingerprint": described.fingerprint,
        "input_shape": described.architecture.input_shape,
        "num_classes": described.architecture.num_classes,
        "class_names": described.architecture.class_names,
        "trained_here": context.config.teacher.train is not None,
    }


def _threat(config: Config) -> dict[str, Any]:
    step_size = config.threat.step_size
    return {
        "norm": config.threat.norm,
        "eps": parse_epsilon(config.threat.eps),
        "step_size": None if step_size is None else parse_epsilon(step_size),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a run gives."""
    return {
        "dfshield": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }

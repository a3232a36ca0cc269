"""Measuring models on corrupted images: one job a model, one JSON file each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfshield.canonical import identity_hash
from dfshield.config import Config
from dfshield.config.evaluation import CorruptionsConfig
from dfshield.defences import Defence
from dfshield.results import CorruptionsResult
from dfshield.runs.context import RunContext
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.defences import behind, defence_identity, described_defence
from dfshield.runs.inputs.evaluation_images import RealImages, located_images, real_images
from dfshield.runs.names import INDEX
from dfshield.runs.work.measuring import Subject
from dfshield.storage import Folder

if TYPE_CHECKING:
    from dfshield.report.page import Section

FOLDER = "corruptions"


@dataclass(frozen=True)
class CorruptionsJob:
    """Measures one model on corrupted images; picklable.

    Attributes:
        config: names the images and the corruptions.
        name: what the result calls the model.
        model: its folder.
        defence: what it stands behind, or None.
        seed: of all draws.
    """

    config: Config
    name: str
    model: str
    defence: Defence | None
    seed: int

    def run(self, worker: Worker) -> CorruptionsResult:
        """Load model and images, and measure."""
        from dfshield.evaluation.corruptions import CORRUPTIONS, evaluate_corruptions

        wanted = self.config.evaluation.corruptions
        assert wanted is not None
        classifier = load_classifier(Folder.at(self.model), device=worker.device)
        images = real_images(self.config, classifier, num_images=self.config.evaluation.num_images)
        found = evaluate_corruptions(
            behind(classifier, self.defence),
            images.images,
            corruptions=[CORRUPTIONS.make(each) for each in wanted.chosen],
            severities=wanted.severities,
            seed=self.seed,
            slice_size=self.config.evaluation.slice_size,
            label=self.name,
            data=images.info,
            progress=lambda _: worker.monitor.advance(1.0),
        )
        said = None if self.defence is None else described_defence(self.defence)
        return found.model_copy(
            update={"defence": said, "model_fingerprint": classifier.fingerprint()}
        )


def measure_corruptions(
    context: RunContext, seed: int, models: Sequence[Subject], images: RealImages
) -> None:
    """Measure models under the corruptions of the configuration, if it names any.

    ``corruptions/NAME.json`` in the folder of the evaluation is a result, ``index.txt`` there names
    those of the last evaluation. What has been measured is not repeated.

    Args:
        context: of the run.
        seed: of the evaluation.
        models: to measure.
        images: to corrupt.
    """
    wanted = context.config.evaluation.corruptions
    if wanted is None:
        return
    names = [_measured(context, seed, model, images, wanted) for model in models]
    folder, index = _folder(context, seed), "".join(f"{name}\n" for name in names).encode()
    if not folder.exists(INDEX) or folder.read_bytes(INDEX) != index:
        folder.write_bytes(INDEX, index)


def _measured(
    context: RunContext, seed: int, model: Subject, images: RealImages, wanted: CorruptionsConfig
) -> str:
    """Measure a model, unless that has been done, and return the name of its result."""
    folder = _folder(context, seed)
    identity = {
        "model_fingerprint": model.fingerprint,
        "data": images.info.identity(),
        "corruptions": list(wanted.chosen),
        "severities": list(wanted.severities),
        "seed": seed,
        **defence_identity(model.defence),
    }
    name = f"{model.name}-{identity_hash(identity)[:8]}"
    if folder.exists(f"{name}.json"):
        return name
    total = len(wanted.chosen)
    context.observer.begin(f"Corruptions, {model.name}", total=total, done=0, unit="corruptions")
    located = located_images(context.config, model.architecture)
    job = CorruptionsJob(located, model.name, model.folder.uri, model.defence, seed)
    result = context.executor.run(job, engine=context.executor.engine(), monitor=context.monitor)
    context.observer.end()
    result = result.model_copy(update={"data": images.info})
    folder.write_bytes(f"{name}.json", f"{result.to_json()}\n".encode())
    context.log.emit("corruptions_measured", seed=seed, model=model.name, accuracy=result.mean)
    return name


def read_corruptions(context: RunContext, seed: int) -> list[CorruptionsResult]:
    """Return the results of the last evaluation of a seed; none where none were asked for.

    Raises:
        InputError: if a result is damaged.
    """
    folder = _folder(context, seed)
    if context.config.evaluation.corruptions is None or not folder.exists(INDEX):
        return []
    paths = [f"{name}.json" for name in folder.read_bytes(INDEX).decode().split()]
    return [
        CorruptionsResult.from_json(
            folder.read_bytes(path).decode(errors="replace"), source=f"{folder}/{path}"
        )
        for path in paths
    ]


def corruptions_section(context: RunContext, seed: int) -> "Section | None":
    """Return the table of the report's page: a row for every corruption, a column for a model."""
    from dfshield.report.page import Section

    results = read_corruptions(context, seed)
    if not results:
        return None
    rows = [
        (title, *(f"{share:.1%}" for share in shares)) for title, shares in corruption_rows(results)
    ]
    first = results[0]
    return Section(
        title="Common corruptions",
        text=(
            f"Accuracy on {first.data.num_images} real images with corruptions of the severities "
            f"{', '.join(map(str, first.severities))}, the mean over these: images that are right, "
            "whether or not they are so without the corruption."
        ),
        columns=("Corruption", *(result.model for result in results)),
        rows=tuple(rows),
    )


def corruption_rows(results: Sequence[CorruptionsResult]) -> list[tuple[str, list[float]]]:
    """Return titles and accuracies, one a model: clean, the mean, and every corruption."""
    clean = ("clean", [result.clean for result in results])
    mean = ("mean of all", [result.mean for result in results])
    each = [
        (name, [result.by_corruption[name] for result in results]) for name in results[0].accuracy
    ]
    return [clean, mean, *each]


def _folder(context: RunContext, seed: int) -> Folder:
    return context.layout.evaluation(seed).child(FOLDER)

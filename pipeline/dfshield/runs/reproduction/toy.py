"""The toy of figure 3: the inversion of images, on points in the plane.

A point is an image of two channels and one pixel, so that nothing of the synthesis is other than on
images. Total variation is 0 there.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import ttest_1samp
from torch import Tensor, nn

from dfshield.classifiers import Classifier
from dfshield.diversity.reference import REFERENCE
from dfshield.experiments import WAYS, Scale, Toy, ToyExperiment
from dfshield.report.reproduced_figure import Panel, ReproducedFigure
from dfshield.report.toy import ToyPoints, ToyView, toy_figure, toy_table
from dfshield.runs.reproduction.figures import lost_lines
from dfshield.runs.watching.events import Observer
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators
from dfshield.synthesis import SYNTHESIZERS
from dfshield.training import train_supervised

_GRID = 200
"""Points of each axis that regions are computed at."""


@dataclass(frozen=True, eq=False)
class Points:
    """Labelled points as images (n, 2, 1, 1) in [0, 1]."""

    images: Float[Tensor, "n 2 1 1"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(
        self, index: slice | np.ndarray | None = None
    ) -> tuple[Float[Tensor, "m 2 1 1"], Int[Tensor, " m"]]:
        """Return points and labels of some rows, or of all."""
        rows = slice(None) if index is None else index
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True, eq=False)
class ToyRun:
    """The toy with one seed.

    Attributes:
        real: the real points.
        made: by the names of `WAYS`.
        network: that was trained on the real points.
        coverage: of the real points, in [0, 1], by the names of `WAYS`.
    """

    real: Points
    made: dict[str, Points]
    network: Classifier
    coverage: dict[str, float]


def toy_run(toy: Toy, seed: int) -> ToyRun:
    """Return the toy with one seed: real points, a network of them, and what is made from it.

    Coverage (Naeem et al. 2020) with the 5 nearest neighbours, in the plane itself.
    """
    real = _clouds(toy, seed)
    network = _network(toy, real, seed)
    measure = REFERENCE.make("neighbours").fit(real.images.flatten(1), seed=seed)
    made = {name: _made(toy, network, rule, seed) for name, rule in WAYS.items()}
    coverage = {
        name: measure(points.images.flatten(1))["coverage"] for name, points in made.items()
    }
    return ToyRun(real, made, network, coverage)


def _clouds(toy: Toy, seed: int) -> Points:
    rng = generator(seed, RngStream.TEACHER)
    labels = np.arange(toy.num_points) % toy.num_classes
    angles = 2 * np.pi * (labels + 0.5) / toy.num_classes
    centres = 0.5 + toy.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = centres + toy.spread * rng.standard_normal(centres.shape)
    images = torch.from_numpy(points.clip(0, 1)).float().reshape(-1, 2, 1, 1)
    return Points(images, torch.from_numpy(labels))


def _network(toy: Toy, real: Points, seed: int) -> Classifier:
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 2
    with torch_generators(derived_seed(seed, RngStream.TEACHER), torch.device("cpu")):
        for _ in range(toy.num_layers - 1):
            layers += [nn.Linear(inputs, toy.width), nn.BatchNorm1d(toy.width), nn.ReLU()]
            inputs = toy.width
        layers.append(nn.Linear(inputs, toy.num_classes))
    spread, mean = torch.std_mean(real.images, dim=(0, 2, 3))
    network = Classifier.wrap(
        nn.Sequential(*layers), input_shape=(2, 1, 1), mean=mean.tolist(), std=spread.tolist()
    )
    train_supervised(
        network,
        real,
        real,
        epochs=toy.epochs,
        batch_size=toy.batch_size,
        learning_rate=toy.learning_rate,
        select="last",
        seed=seed,
    )
    return network


def _made(toy: Toy, network: Classifier, rule: str, seed: int) -> Points:
    options = {"iterations": toy.iterations, "jitter": 0, "labels": "random"}
    synthesizer = SYNTHESIZERS.make("dss", **options, coefficients={"rule": rule}).bind(network)
    batches = range(toy.num_points // toy.batch_size)
    made = synthesizer.synthesize_batches(seed=seed, batches=batches, size=toy.batch_size)
    images, labels = ([getattr(one, key) for one in made] for key in ("images", "labels"))
    return Points(torch.cat(images), torch.cat(labels))


def reproduced_toy(
    scale: Scale, experiment: ToyExperiment, observer: Observer, *, command: str
) -> ReproducedFigure:
    """Run the toy with all its seeds; return it drawn, with what became of coverage.

    Args:
        scale: at which it is asked for; it is the same at all.
        experiment: the figure.
        observer: who watches.
        command: that draws it, for the page.
    """
    toy, runs = experiment.toy, []
    observer.begin("Toy", total=toy.num_seeds, done=0, unit="seeds")
    for seed in range(toy.num_seeds):
        runs.append(toy_run(toy, seed))
        observer.advance(1.0)
    observer.end()
    view = _view(toy, runs[0])
    alt = "Points in the plane over regions"
    panel = Panel(experiment.id, alt, **toy_figure(view), csv=toy_table(view))
    numbers = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in dict(toy).items())
    return ReproducedFigure(
        id=experiment.id,
        heading=experiment.heading,
        title=experiment.title,
        shows=experiment.shows,
        scale=scale.name,
        notes=(f"The same at every scale: {numbers}.", *lost_lines(experiment)),
        findings=_findings(runs),
        panels=(panel,),
        command=command,
    )


def _view(toy: Toy, run: ToyRun) -> ToyView:
    axis = torch.linspace(0, 1, _GRID)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], dim=-1).reshape(-1, 2, 1, 1)
    with torch.no_grad():
        regions = run.network(grid).argmax(dim=1).reshape(_GRID, _GRID).numpy()
    letters = zip("abc", {"real points": run.real, **run.made}.items(), strict=True)
    sets = tuple(
        ToyPoints(
            f"({letter}) {name}",
            points.images.flatten(1).double().numpy(),
            points.labels.numpy(),
        )
        for letter, (name, points) in letters
    )
    return ToyView(sets, regions, toy.num_classes)


def _findings(runs: list[ToyRun]) -> tuple[str, ...]:
    """Return coverage over the seeds, and by how much DSS has more, with a paired interval."""
    of_seed = [tuple(run.coverage[name] for name in WAYS) for run in runs]
    means = np.mean(of_seed, axis=0)
    words = ", ".join(f"{n} {m:.3f}" for n, m in zip(WAYS, means, strict=True))
    each = "; ".join(f"{fixed:.3f} and {diverse:.3f}" for fixed, diverse in of_seed)
    told = [f"Coverage of the real points, mean over {len(runs)} seeds: {words}. Each: {each}."]
    if len(runs) > 1:
        differences = [diverse - fixed for fixed, diverse in of_seed]
        low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
        verdict = "above" if low > 0 else "below" if high < 0 else "not told apart from"
        told.append(
            f"DSS less fixed: {np.mean(differences):+.3f}, 95 % interval {low:+.3f} to {high:+.3f} "
            f"(paired t): DSS is {verdict} fixed coefficients."
        )
    return tuple(told)

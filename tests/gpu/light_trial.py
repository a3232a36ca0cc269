"""First light, stage ``trial``: engine trials of the paper's settings, but for what is compiled.

Batches that share a pass are sized from the GPU's memory; plain passes of them, and passes that are
replayed from CUDA graphs, are compared with the plain way. The rehearsal pretends graphs.
"""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import torch
from light_graph import GRAPHED
from stage import Stage
from subjects import bound, images_of, network

import dfshield.runs.work.engine_trial as work
from dfshield.config import load_config
from dfshield.engine.trial import Trial
from dfshield.runs import InProcessExecutor
from dfshield.storage import SurrogateTensors
from recorded_graphs import pretend

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10-resnet20.yaml"
FEW = ("synthesis.num_images=1000", "synthesis.num_holdout=200")
"""Images of so few iterations that little is compared."""


def trial(stage: Stage) -> None:
    device = bound(stage)
    if device.type != "cuda":
        pretend(SimpleNamespace(setattr=setattr))
    work.accelerations = lambda *_: [GRAPHED]
    config = load_config(str(CONFIG), (*FEW, *stage.sizes.trial))
    teacher = network(stage.sizes).to(device)
    plain = InProcessExecutor().engine()

    def of_synthesis() -> dict[str, object]:
        found = work.synthesis_trial(
            teacher, config.synthesis, seed=0, long=0.0, part_size=config.storage.part_size
        )
        return judged(stage, "synthesis", found)

    def of_training() -> dict[str, object]:
        wanted = work.num_images_tried(config.training, plain)
        images = images_of(stage.sizes, -(-wanted // stage.sizes.batch))[:wanted]
        with torch.no_grad():
            logits = teacher(images.to(device)).cpu()
        found = work.training_trial(
            teacher,
            SurrogateTensors(images, logits.argmax(1), logits),
            config,
            plain,
            seed=0,
            num_images=wanted,
            long=0.0,
        )
        return judged(stage, "training", found)

    stage.attempt("synthesis", of_synthesis)
    stage.attempt("training", of_training)


def judged(stage: Stage, name: str, trial: Trial | None) -> dict[str, object]:
    """Expect ways that are right, whether or not they are faster; return the figures."""
    assert trial is not None
    wrong = [r.reason for r in trial.rungs if r.reason and "times as fast" not in r.reason]
    stage.expect(f"every way is right: {name}", trial.rungs and not wrong)
    return asdict(trial)

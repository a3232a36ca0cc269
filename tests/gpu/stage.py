"""What a stage of `first_light.py` is given: its sizes, its device, and where its figures go."""

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class LackingError(Exception):
    """This machine lacks what a stage, or a part of it, looks at."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed.

    Attributes:
        network: source of the network whose speed is measured.
        shape: of its images.
        widths: of that network; the widest is bound by arithmetic, not by launches.
        batch: images in a batch.
        iterations: of an inversion that is repeated.
        rounds: how often what is timed is repeated.
        digits: images that are attacked.
        norms: of the attacks.
        teacher_epochs: of the teacher of digits.
        product: rows and columns of the matrices that are multiplied.
        precisions: in which is compiled.
        compiler: of ``torch.compile``; None is its own. A CPU's takes minutes, and has tests of its
            own.
        run: what is changed in examples/digits.yaml.
        trial: what is changed in examples/cifar10-resnet20.yaml, of which engine trials are held.
    """

    network: str
    shape: tuple[int, int, int]
    widths: tuple[int, ...]
    batch: int
    iterations: int
    rounds: int
    digits: int
    norms: tuple[str, ...]
    teacher_epochs: int
    product: int
    precisions: tuple[str, ...]
    compiler: str | None
    run: tuple[str, ...]
    trial: tuple[str, ...]


FULL = Sizes(
    network="dfshield:resnet20",
    shape=(3, 32, 32),
    widths=(16, 64),
    batch=200,
    iterations=40,
    rounds=20,
    digits=64,
    norms=("linf", "l2"),
    teacher_epochs=6,
    product=8192,
    precisions=("float32", "bfloat16"),
    compiler=None,
    run=(
        "teacher.train.epochs=10",
        "synthesis.num_images=800",
        "synthesis.method.iterations=300",
        "training.epochs=6",
        "evaluation.num_images=200",
        "evaluation.attacks=[{name: pgd, num_steps: 20}, {name: autoattack}]",
        "training.checkpoint_every=5",
    ),
    trial=(),
)
REHEARSAL = Sizes(
    network="dfshield:resnet8",
    shape=(1, 8, 8),
    widths=(2,),
    batch=6,
    iterations=4,
    rounds=2,
    digits=4,
    norms=("linf",),
    teacher_epochs=1,
    product=64,
    precisions=("float32",),
    compiler="eager",
    run=(
        "teacher.options={width: 2}",
        "teacher.train.epochs=1",
        "synthesis.num_images=40",
        "synthesis.num_holdout=10",
        "synthesis.batch_size=10",
        "synthesis.method.iterations=3",
        "training.epochs=2",
        "training.batch_size=10",
        "training.gradrefine.num_batches=2",
        "training.checkpoint_every=1",
        "evaluation.num_images=20",
        "evaluation.attacks=[{name: pgd, num_steps: 2}]",
        "storage.part_size=20",
        "storage.shard_size=40",
    ),
    trial=(
        *("synthesis.batch_size=10", "synthesis.method.iterations=4"),
        *("training.batch_size=6", "training.epochs=2", "training.gradrefine.num_batches=2"),
        *("training.inner.num_steps=2", "storage.part_size=20", "storage.shard_size=20"),
    ),
)


class Stage:
    """The figures of a stage, kept in a file of its own: every one is on disk as soon as known.

    Args:
        file: which; the parts of a stage, processes one after the other, share it.
        sizes: how much is computed.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, file: Path, sizes: Sizes, device: str) -> None:
        self.file, self.sizes, self.device = file, sizes, device

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    @property
    def folder(self) -> Path:
        """Where a stage may leave files."""
        folder = self.file.with_suffix("")
        folder.mkdir(exist_ok=True)
        return folder

    def note(self, **figures: Any) -> None:
        """Keep figures, in the place of earlier ones of the same names."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.figures | figures, default=str))
        new.replace(self.file)

    def expect(self, name: str, holds: object) -> None:
        """Keep whether something that must hold does; the stage goes on in any case."""
        self.note(expected=self.figures.get("expected", {}) | {name: bool(holds)})

    def attempt(self, name: str, function: Callable[[], object]) -> None:
        """Note what a function returns under a name, or why it could not."""
        try:
            self.note(**{name: function()})
        except LackingError as reason:
            self.note(**{name: f"skipped: {reason}"})
        except Exception as error:  # noqa: BLE001  whatever it is, the others are still of interest
            self.note(**{name: f"failed: {told(error)}"})
            self.expect(name, holds=False)


def told(error: BaseException) -> str:
    """Return an error in a few lines, with the place that raised it."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    place = f" ({Path(last.filename).name}:{last.lineno})" if last else ""
    return f"{type(error).__name__}{place}: {str(error)[:600]}"


def run_part(function: Callable[[Stage], None], stage: Stage) -> None:
    """Run a part of a stage in this process, which ends with it."""
    os.setsid()  # what it starts can be ended with it
    try:
        function(stage)
    except LackingError as reason:
        stage.note(state="skipped", reason=str(reason))
    except BaseException as error:  # noqa: BLE001
        stage.note(state="failed", reason=told(error), traceback=traceback.format_exc()[-3000:])
    os._exit(0)

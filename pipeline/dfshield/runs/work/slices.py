"""What a worker does of an evaluation: slices of the test images, each under one attack."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from safetensors.torch import save
from torch import Tensor

from dfshield.config import Config
from dfshield.datasets import ImageSet
from dfshield.defences import Defence
from dfshield.engine.accelerated_model import accelerable
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.compiled_in_time import CompiledInTime
from dfshield.engine.pieces import InPieces
from dfshield.evaluation import SliceResult, evaluate_slice, slice_bounds
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.attack_plans import AttackPlan
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.inputs.defences import behind
from dfshield.runs.inputs.evaluation_images import real_images
from dfshield.runs.work.attack_engine import plain_images
from dfshield.runs.work.evaluation_passes import images_that_fit
from dfshield.seeds import RngStream, derived_seed
from dfshield.storage import Folder


@dataclass(frozen=True)
class Attacked:
    """A model under an attack, as a worker is told of it.

    Attributes:
        title: what people call it.
        model: the folder of the model.
        defence: what it is measured behind, or None.
        attack: None for clean images.
        adversarial: the folder that takes the adversarial images; None keeps none.
    """

    title: str
    model: str
    defence: Defence | None
    attack: AttackPlan | None
    adversarial: str | None

    def keep(self, index: int, x_adv: Tensor) -> None:
        """Write the adversarial images of a slice, if they are wanted."""
        if self.adversarial is not None:
            content = save({"images": x_adv.cpu().contiguous()})
            Folder.at(self.adversarial).write_bytes(adversarial_name(index), content)


@dataclass(frozen=True)
class SliceTask:
    """Attacks slices of the test images, of several models side by side.

    A unit is the place of a model in ``attacked`` and the index of a slice.
    """

    config: Config
    attacked: tuple[Attacked, ...]
    seed: int
    acceleration: Acceleration

    def prepare(self, worker: Worker) -> Callable[[tuple[int, int]], SliceResult]:
        """Load models and images onto the worker."""
        architecture = describe(Folder.at(self.attacked[0].model)).architecture
        wanted = self.config.evaluation.num_images
        images = real_images(self.config, architecture, num_images=wanted).images
        measures = [self._measure(attacked, images, worker) for attacked in self.attacked]

        def measure(unit: tuple[int, int]) -> SliceResult:
            place, index = unit
            result = measures[place](index)
            worker.monitor.advance(float(len(result.labels)))
            return result

        return measure

    def _measure(
        self, attacked: Attacked, images: ImageSet, worker: Worker
    ) -> Callable[[int], SliceResult]:
        classifier = load_classifier(Folder.at(attacked.model), device=worker.device)
        size = self.config.evaluation.slice_size
        bounds, largest = slice_bounds(len(images), size), min(size, len(images))
        model, faster = behind(classifier, attacked.defence), None
        attack = attacked.attack.build(worker.device) if attacked.attack else None
        # A pass that is recorded once would repeat its draws.
        draws = attacked.defence is not None and attacked.defence.randomised
        as_it_is = draws or attack is None or attack.looks_inside
        fast, told = self.acceleration, "it is attacked as it is"
        if attack is not None and not as_it_is and accelerable(model, fast, otherwise=told):
            faster = CompiledInTime(
                model,
                image_shape=classifier.input_shape,
                acceleration=fast,
                after=plain_images(classifier, attack),
            )
        whole = faster is not None or as_it_is
        shape, device = classifier.input_shape, worker.device
        most = largest if whole else images_that_fit(model, shape, largest, device)
        pieces = InPieces(model, most=most) if most < largest else None

        def measure(index: int) -> SliceResult:
            x, y = images.tensors(bounds[index])
            if faster is not None:
                faster.begin()
            result = evaluate_slice(
                model,
                x,
                y,
                attack,
                seed=derived_seed(self.seed, RngStream.EVALUATION, index),
                keep=lambda x_adv: attacked.keep(index, x_adv),
                attacked=faster or pieces,
            )
            if faster is not None and faster.refused:
                return replace(result, engine={"compiled": False})
            return replace(result, engine={"images_per_pass": most}) if pieces else result

        return measure

    def label(self, unit: tuple[int, int]) -> str:
        """Return how people call a slice."""
        place, index = unit
        return f"{self.attacked[place].title}, slice {index}"


def adversarial_name(index: int) -> str:
    """Return the name of the file that holds the adversarial images of a slice."""
    return f"{index:05d}.safetensors"

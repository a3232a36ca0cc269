"""How a part falls into passes, and what makes them."""

from dfshield.classifiers import Classifier
from dfshield.config import SynthesisConfig
from dfshield.runs.execution.engine import Engine
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.work.generator import generator_weights
from dfshield.seeds import RngStream
from dfshield.storage import Folder, Manifest, Part
from dfshield.synthesis import BoundSynthesizer, FittedSynthesizer

STREAMS = {"data": RngStream.SYNTHESIS, "holdout": RngStream.HOLDOUT}


def rows_of(manifest: Manifest, part: Part, batch: int) -> range:
    """Return where the images of a batch stand in their part."""
    first = (batch - part.first_batch) * manifest.batch_size
    return range(first, min(first + manifest.batch_size, part.num_images))


def passes_of(manifest: Manifest, part: Part, per_pass: int) -> list[range]:
    """Return the batches of a part that are optimised together: as many as fit, of one size."""
    whole = part.num_images // manifest.batch_size
    first, end = part.first_batch, part.first_batch + whole
    passes = [range(b, min(b + per_pass, end)) for b in range(first, end, per_pass)]
    short = range(end, part.batches.stop)
    return [*passes, short] if short else passes


def bound_synthesizer(
    synthesis: SynthesisConfig, teacher: Classifier, engine: Engine, data: Folder
) -> BoundSynthesizer:
    """Return the synthesizer of a configuration, bound to a teacher under an engine.

    Args:
        synthesis: names the synthesizer.
        teacher: on the device of the engine.
        engine: how it is computed.
        data: the folder of the data set, with the generator that was fitted for it, if any.

    Raises:
        InputError: if the generator is missing or broken.
    """
    synthesizer = synthesizer_of(synthesis)
    if isinstance(synthesizer, FittedSynthesizer):
        synthesizer = synthesizer.with_weights(generator_weights(data))
    return synthesizer.bind(
        teacher,
        acceleration=engine.acceleration,
        full_pass=(engine.batches_per_pass, synthesis.batch_size),
    )

"""How many batches of a synthesis share a pass on a GPU: as many as its memory takes."""

from dfshield.engine.acceleration import Acceleration
from dfshield.runs.work.attack_passes import MOST_TOGETHER, number_that_fits
from dfshield.synthesis import BoundSynthesizer

ITERATIONS = 2
"""Of a pass whose memory is measured: the first makes what Adam keeps, the second holds all."""


def batches_that_fit(
    synthesizer: BoundSynthesizer, *, seed: int, size: int, per_part: int, memory: int | None
) -> int:
    """Return how many batches fit into a share of a GPU's memory at once, in plain passes.

    A small network keeps no GPU busy with one batch. A pass stays within a part, and passes of
    another size than the others' would not be compiled: so the number divides that of a part.

    Args:
        synthesizer: bound to the teacher, on the device of choice.
        seed: of the run.
        size: images in a batch.
        per_part: whole batches of a part.
        memory: bytes that may be held; None where nobody knows, as on a CPU: one batch then.
    """

    def peak_of(number: int) -> int | None:
        ways = synthesizer.trial_ways(
            seed=seed, num_batches=number, size=size, iterations=ITERATIONS
        )
        if ways is None:
            return None
        way = ways.faster(Acceleration())
        way.begin()
        way.run(None, ITERATIONS)
        return way.peak_bytes()

    most = max(1, min(MOST_TOGETHER, per_part))
    fit = number_that_fits(peak_of, memory=memory, most=most)
    return max(n for n in range(1, fit + 1) if n == 1 or per_part % n == 0)

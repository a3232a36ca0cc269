"""Where the student of a baseline begins: at the teacher, or at random weights."""

import copy
from typing import Literal

import torch

from dfshield.classifiers import Classifier
from dfshield.errors import InputError
from dfshield.seeds import RngStream, derived_seed, torch_generators

Init = Literal["teacher", "scratch"]


def student_of(teacher: Classifier, init: Init, *, seed: int) -> Classifier:
    """Return a student of the teacher's architecture, on its device, all its weights trainable.

    Args:
        teacher: which is left as it is.
        init: ``teacher``: a copy; ``scratch``: every layer as its own ``reset_parameters`` begins
            it, drawn on the CPU from the run's seed.
        seed: of the run.

    Raises:
        InputError: if a layer with weights cannot be begun afresh.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    if init == "teacher":
        return student
    device = teacher.mean.device
    student.cpu()
    with torch_generators(derived_seed(seed, RngStream.BASELINE, 0, 0), torch.device("cpu")):
        for name, layer in student.named_modules():
            if not any(True for _ in layer.parameters(recurse=False)):
                continue
            if not hasattr(layer, "reset_parameters"):
                raise InputError(
                    f"init: scratch cannot begin {name} afresh, a {type(layer).__name__} without "
                    "reset_parameters: take init teacher"
                )
            layer.reset_parameters()
    return student.to(device)

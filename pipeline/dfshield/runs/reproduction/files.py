"""The files that a table or a figure wants: which there are, and where each comes from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dfshield.config import Config, DataConfig
from dfshield.errors import InputError
from dfshield.experiments import Cell, file_source
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.inputs.real_data import require_there
from dfshield.runs.inputs.teacher_source import weights_path
from dfshield.runs.reproduction.cells import Reproduction

REAL = "train"
"""What scales call the real training images of a place."""
DOWNLOAD = "download"


@dataclass(frozen=True)
class WantedFile:
    """What cells read.

    Attributes:
        name: of the data set, or of the file.
        missing: what the error says; empty where it is there.
        source: where it comes from; empty where that is not known.
    """

    name: str
    missing: str
    source: str


def wanted_files(every: Iterable[Reproduction]) -> list[WantedFile]:
    """Return what tables and figures read, each once.

    Args:
        every: the tables and figures.
    """
    wanted: dict[str, WantedFile] = {}
    for found in every:
        for name, check in _checks(found):
            known = wanted.get(name)
            if known is None or not known.missing:
                wanted[name] = WantedFile(name, _problem(check), file_source(name))
    return list(wanted.values())


def missing_files(every: Iterable[Reproduction]) -> list[str]:
    """Return what is wanted and is not there: the error, and where it comes from, each once."""
    found = [one for one in wanted_files(every) if one.missing]
    lines = (f"{one.missing} ({one.source})" if one.source else one.missing for one in found)
    return list(dict.fromkeys(lines))


def _problem(check: Callable[[], object]) -> str:
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


Check = tuple[str, Callable[[], object]]


def _checks(found: Reproduction) -> Iterator[Check]:
    """Give what is wanted, each with what looks for it without reading it."""
    for trials in found.trials.values():
        yield from _of_config(trials[0].config)
    if found.experiment.needs_real_images:
        for cell in found.cells:
            yield _named(_given(cell)[0]), partial(real_training_images, cell)


def _of_config(config: Config) -> Iterator[Check]:
    teacher, images, measured = config.teacher, config.training.images, config.evaluation.data
    if teacher.weights == DOWNLOAD:
        yield f"{teacher.source} (downloaded as it is first used)", lambda: None
    elif teacher.weights is not None:
        yield Path(teacher.weights).name, lambda: _require_weights(config)
    if teacher.train is not None:
        train = teacher.train.data
        yield _named(train), lambda: require_there(train, key="teacher.train.data")
    if images is not None:
        yield _named(images.data), lambda: require_there(images.data, key="training.images.data")
    name = "evaluation.data" if measured is None else _named(measured)
    yield name, lambda: require_evaluation_data(config)


def _named(data: DataConfig) -> str:
    """Return the name of a data set; of a file that may hold any, the file's."""
    return Path(data.path).name if data.name == "npz" and data.path else data.name


def _require_weights(config: Config) -> None:
    path = weights_path(config)
    if path is not None and "://" not in path and not Path(path).exists():
        raise InputError(f"teacher.weights: {path}: no such file or folder")


def _given(cell: Cell) -> tuple[DataConfig, str]:
    given = cell.place.named.get(REAL)
    if given is None:
        raise InputError(f"--scale: it names no training images of {cell.place.data}")
    return DataConfig(name=given["name"], path=given.get("path")), given["split"]


def real_training_images(cell: Cell) -> tuple[DataConfig, str]:
    """Return the real training images of a cell's place, and their split.

    Raises:
        InputError: if the scale names none there, or they are not there.
    """
    data, split = _given(cell)
    require_there(data, key=f"${REAL}")
    return data, split

"""Options of commands that measure a model of any origin, without a run."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dfshield.cli.execution import find_factories_here
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.datasets import ImageSet
    from dfshield.runs import RunLayout
    from dfshield.storage import Folder

FOLDER = "evaluations"


@dataclass(frozen=True)
class ModelOptions:
    """What the command line says of a model; None is what was left out.

    Attributes:
        model: source of the classifier, or its folder, as ``teacher.source`` takes it.
        weights: as ``teacher.weights`` takes them.
        data: ``NAME``, ``NAME:PATH``, an ``.npz`` file or a folder of class folders.
        split: of the data.
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        num_images: size of a stratified sample.
        seed: of attacks and sample.
        out: the folder of results.
        surrogate: the folder of another classifier, for transferred attacks.
        defence: a test-time defence that the model is measured behind, as YAML.
    """

    model: str | None
    weights: str | None
    data: str | None
    split: str | None
    eps: str | None
    norm: str | None
    num_images: int | None
    seed: int | None
    out: str | None
    surrogate: str | None
    defence: str | None

    def settings(self, overrides: Sequence[str]) -> "Config":
        """Return the configuration that the options stand for.

        Raises:
            InputError: for what is missing or wrong, naming the option or key.
        """
        from dfshield.config import apply_override, config_from, names_folder

        if self.model is None or self.data is None:
            raise InputError(f"--{'model' if self.model is None else 'data'}: is missing")
        model, name = self.model, _name_of(self.model.rpartition(":")[2])
        if names_folder(model):
            model, name = _found(model)
        elif self.weights is None and not model.startswith("python:"):
            raise InputError(
                f"--weights: is missing: {model} brings none, as a python: factory or a folder may"
            )
        find_factories_here()
        if self.out:
            name = _file_name(self._root().parent()[1])
        tree: dict[str, Any] = {
            "name": name,
            "seed": self.seed or 0,
            "teacher": {"source": model, "weights": self.weights},
            "threat": {"eps": _number(self.eps or "8/255"), "norm": self.norm or "linf"},
            "evaluation": {
                "data": {**data_of(self.data, option="--data"), "split": self.split or "test"},
                "num_images": self.num_images,
            },
            "audit": {} if self.num_images is None else {"num_images": self.num_images},
            "storage": {"path": FOLDER},
            "cluster": {"address": "none"},
        }
        behind = () if self.defence is None else self._behind(self.defence)
        for override in (*behind, *overrides):
            apply_override(tree, override)
        return config_from(tree, where="options")

    @staticmethod
    def _behind(defence: str) -> tuple[str, str]:
        """Return the overrides that a defence stands for: of an evaluation, and of an audit."""
        return f"evaluation.defences=[{defence}]", f"audit.defence={defence}"

    def layout(self, settings: "Config") -> "RunLayout":
        """Return where results go: to the folder given, whatever it is called."""
        from dfshield.runs import RunLayout

        layout = RunLayout.of(settings)
        return layout if self.out is None else replace(layout, root=self._root())

    def _root(self) -> "Folder":
        from dfshield.storage import Folder

        assert self.out is not None
        try:
            folder = Folder.at(self.out)
        except InputError as error:
            raise InputError(f"--out: {error}") from None
        if folder.local is None:
            return folder
        if Path(folder.local).is_file():
            raise InputError(f"--out: {self.out} is a file: name a folder for the results")
        # The name of ".", of "..", and of what ends in a slash.
        return Folder.at(os.path.normpath(folder.local))

    def refuse_with_config(self) -> None:
        """Refuse options that only go with --model.

        Raises:
            InputError: naming the first one given.
        """
        for name, value in vars(self).items():
            if value is not None:
                option = name.replace("_", "-")
                raise InputError(
                    f"--{option}: goes with --model; with a CONFIG, override its keys instead"
                )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _name_of(model: str) -> str:
    """Return a name for files: the last part of a source, ``resnet20_cifar10`` say."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-._") or "model"


def _file_name(folder: str) -> str:
    """Return what results in a folder are called: as it is, where that is a name for files."""
    from dfshield.config import NAME

    return folder if re.fullmatch(NAME, folder) else _name_of(folder)


def _found(model: str) -> tuple[str, str]:
    """Return the folder of the model in a folder or run, and a name for it.

    A student or teacher is called as the run that it is of, ``digits-student`` say.

    Raises:
        InputError: if there is none.
    """
    from dfshield.config import expand
    from dfshield.runs.inputs.teacher_source import model_folder

    location = expand(model, key="--model")
    try:
        folder = model_folder(location)
    except InputError as error:
        raise InputError(f"--model: {error}") from None
    parts = PurePosixPath(os.path.normpath(folder.path)).parts
    first = len(parts) - 1
    while first > 1 and re.fullmatch(r"student|teacher|model|seed-\d+", parts[first]):
        first -= 1
    return str(folder), _name_of("-".join(parts[first:]))


def data_of(text: str, *, option: str) -> dict[str, str]:
    """Return a data set as the configuration names it.

    Raises:
        InputError: naming the option, for what is no data set.
    """
    from dfshield.datasets import DATASETS

    if text in DATASETS:
        return {"name": text}
    name, colon, path = text.partition(":")
    if colon and name in DATASETS:
        return {"name": name, "path": path}
    if Path(text).expanduser().is_dir():
        return {"name": "folder", "path": text}
    if text.endswith(".npz"):
        return {"name": "npz", "path": text}
    raise InputError(
        f"{option}: {text!r} is no data set: give {', '.join(DATASETS)}, NAME:PATH, an .npz file "
        "or a folder of class folders"
    )


def images_of(data: Mapping[str, str], *, split: str, option: str) -> "ImageSet":
    """Return the real images of a data set that `data_of` returned.

    Raises:
        InputError: naming the option, if they are missing or damaged.
    """
    from dfshield.datasets import load_images

    try:
        return load_images(data["name"], split=split, path=data.get("path"))
    except InputError as error:
        raise InputError(f"{option}: {error}") from None

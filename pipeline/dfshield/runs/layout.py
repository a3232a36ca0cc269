"""Where everything of a run lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dfshield.runs.names as names
from dfshield.config import Config, expand, parse_yaml
from dfshield.errors import InputError
from dfshield.runs.stages.registry import STAGES
from dfshield.storage import MANIFEST, Folder


@dataclass(frozen=True)
class RunLayout:
    """The folders of a run. A run of several seeds keeps each seed's stages in ``seed-<n>/``.

    Attributes:
        root: the folder of all of it.
        seeds: of the run.
        elsewhere: by the names of stages, the folders of other runs whose results this one uses.
    """

    root: Folder
    seeds: tuple[int, ...]
    elsewhere: Mapping[str, Folder] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> "RunLayout":
        """Return the layout of a configuration's run."""
        base = Folder.at(expand(config.storage.path, key="storage.path"))
        return cls(base.child(config.name), config.all_seeds)

    def folder(self, stage: str, seed: int) -> Folder:
        """Return the folder of a stage; that of one which is done once is the same for all seeds.

        Raises:
            InputError: for an unknown stage.
        """
        if stage in self.elsewhere:
            return self.elsewhere[stage]
        found = STAGES.find(stage)
        return (self._of_seed(seed) if found.per_seed else self.root).child(found.folder)

    def _of_seed(self, seed: int) -> Folder:
        return self.root if len(self.seeds) == 1 else self.root.child(f"{names.SEED}{seed}")

    @property
    def teacher(self) -> Folder:
        """The classifier to harden, shared by all seeds."""
        return self.folder("teacher", self.seeds[0])

    def synthetic(self, seed: int) -> Folder:
        """The surrogate data set."""
        return self.folder("synthesize", seed)

    def student(self, seed: int) -> Folder:
        """The hardened classifier and its checkpoint."""
        return self.folder("train", seed)

    def evaluation(self, seed: int) -> Folder:
        """Accuracy figures."""
        return self.folder("evaluate", seed)

    def audit(self, seed: int) -> Folder:
        """Audits for masked gradients."""
        return self._of_seed(seed).child(names.AUDIT)

    @property
    def report(self) -> Folder:
        """The page."""
        return self.folder("report", self.seeds[0])


def seed_folders(root: Folder) -> list[tuple[str | None, Folder]]:
    """Return the folders that hold a seed's stages; the seed is None where there is only one."""
    found = [name for name in root.folders() if name.startswith(names.SEED)]
    if not found:
        return [(None, root)]
    return [(name.removeprefix(names.SEED), root.child(name)) for name in found]


def kept_settings(root: Folder) -> dict[str, Any]:
    """Return the configuration that a run folder keeps, as it is written; empty without one.

    Raises:
        InputError: if the file is damaged.
    """
    if not root.exists(names.CONFIG_FILE):
        return {}
    text = root.read_bytes(names.CONFIG_FILE).decode(errors="replace")
    return parse_yaml(text, where=f"{root}/{names.CONFIG_FILE}")


def method_of(settings: Mapping[str, Any]) -> str | None:
    """Return the baseline by which a run of these settings makes its student, or None."""
    method = settings.get("method")
    return str(method["name"]) if isinstance(method, Mapping) and "name" in method else None


def why_no_images(settings: Mapping[str, Any]) -> str | None:
    """Return why a run of these settings makes no surrogate images; None if it makes them."""
    method, training = method_of(settings), settings.get("training")
    if method is not None:
        return f"its method, {method}, makes images while it trains and stores none"
    if not isinstance(training, Mapping):
        return None
    if training.get("images") is not None:
        return "its student is trained on other images (training.images)"
    if training.get("data") is not None:
        return f"its student is trained on those of {training['data']} (training.data)"
    return None


def surrogate_folders(location: str) -> list[Folder]:
    """Return the surrogate data sets of a run folder, one a seed, or the data set itself.

    Raises:
        InputError: if there is none, with the reason where the run's settings are one.
    """
    folder = Folder.at(location)
    if folder.exists(MANIFEST):
        return [folder]
    synthetic = [of_seed.child(names.SYNTHETIC) for _, of_seed in seed_folders(folder)]
    present = [data for data in synthetic if data.exists(MANIFEST)]
    if not present:
        reason = why_no_images(kept_settings(folder))
        raise InputError(
            f"{folder}: no surrogate data set here, nor in its {names.SYNTHETIC}/"
            + ("" if reason is None else f": {reason}")
        )
    return present

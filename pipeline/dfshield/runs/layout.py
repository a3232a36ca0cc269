"""Where everything of a run lies."""

from dataclasses import dataclass

from dfshield.config import Config, expand
from dfshield.storage import Folder

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class RunLayout:
    """The folders of a run. A run of several seeds keeps each seed's stages in ``seed-<n>/``.

    Attributes:
        root: the folder of all of it.
        seeds: of the run.
        teacher_at: the teacher of another run, which this one uses.
        synthetic_at: the surrogate data set of another run, which this one uses.
    """

    root: Folder
    seeds: tuple[int, ...]
    teacher_at: Folder | None = None
    synthetic_at: Folder | None = None

    @classmethod
    def of(cls, config: Config) -> "RunLayout":
        """Return the layout of a configuration's run."""
        base = Folder.at(expand(config.storage.path, key="storage.path"))
        return cls(base.child(config.name), config.all_seeds)

    def _of_seed(self, seed: int) -> Folder:
        return self.root if len(self.seeds) == 1 else self.root.child(f"seed-{seed}")

    @property
    def teacher(self) -> Folder:
        """The classifier to harden, shared by all seeds."""
        return self.teacher_at or self.root.child("teacher")

    def synthetic(self, seed: int) -> Folder:
        """The surrogate data set."""
        return self.synthetic_at or self._of_seed(seed).child("synthetic")

    def student(self, seed: int) -> Folder:
        """The hardened classifier and its checkpoint."""
        return self._of_seed(seed).child("student")

    def evaluation(self, seed: int) -> Folder:
        """Accuracy figures."""
        return self._of_seed(seed).child("evaluation")

    def audit(self, seed: int) -> Folder:
        """Audits for masked gradients."""
        return self._of_seed(seed).child("audit")

    @property
    def report(self) -> Folder:
        """The page."""
        return self.root.child("report")


def seed_folders(root: Folder) -> list[tuple[str | None, Folder]]:
    """Return the folders that hold a seed's stages; the seed is None where there is only one."""
    names = sorted({name.split("/")[0] for name in root.list() if name.startswith("seed-")})
    if not names:
        return [(None, root)]
    return [(name.removeprefix("seed-"), root.child(name)) for name in names]

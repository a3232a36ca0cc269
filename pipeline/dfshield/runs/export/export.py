"""Writing a surrogate data set in the format of another library."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dfshield.checks import one_of
from dfshield.errors import InputError
from dfshield.runs.export.card import keep_card
from dfshield.runs.export.hugging_face import are_pictures, write_hugging_face
from dfshield.runs.export.npz import write_npz
from dfshield.runs.export.source import ImageSource, image_source
from dfshield.runs.export.tensors import write_tensors
from dfshield.runs.layout import surrogate_folders
from dfshield.runs.watching.events import Observer
from dfshield.storage import Folder, SurrogateDataset, require_absent, whole_file, whole_folder

FORMATS = ("hf", "ray", "npz")


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        source: the data set.
        format: one of `FORMATS`.
        path: the folder or file that was written.
        image_dtype: number type of the pixels there.
        splits: how many images each split has.
    """

    source: str
    format: str
    path: str
    image_dtype: str
    splits: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        return asdict(self)


def export_data(
    location: str,
    to: str,
    out: str,
    *,
    seed: int | None = None,
    uint8: bool = False,
    observer: Observer,
) -> ExportReport:
    """Write surrogate images for another library, with the same pixels unless ``uint8`` is asked.

    Every part is checked as it is read. The data set's own folder is given its card where it has
    none and can be written.

    Args:
        location: a run folder or a data set, on a disk or a store.
        to: ``hf`` for Hugging Face ``datasets``, ``ray`` for ray.data, ``npz`` for NumPy.
        out: the folder, or for ``npz`` the file, to write; nothing may be there yet.
        seed: whose images, in a run of several seeds.
        uint8: whether pixels are rounded to eight bits.
        observer: is told how it goes.

    Raises:
        InputError: if there is no such data set, it is not complete, ``out`` is there already or
            cannot be written.
        PartError: for a part that is broken.
    """
    one_of(FORMATS, to, "--to")
    target = _target(to, out)
    data = _data_set(location, seed)
    _keep_card(data, observer)
    source = image_source(
        data, uint8=uint8, on_part=lambda part: observer.advance(float(part.num_images))
    )
    if to == "hf" and not are_pictures(source.manifest):
        observer.say(_arrays_instead(source))
    sizes = {name: sum(p.num_images for p in parts) for name, parts in source.splits.items()}
    observer.begin("Exporting", total=sum(sizes.values()), done=0, unit="images")
    if to == "npz":
        with whole_file(target) as path:
            write_npz(source, path)
    else:
        write: Callable[[ImageSource, Folder], None]
        write = write_hugging_face if to == "hf" else write_tensors
        with whole_folder(target) as folder:
            write(source, folder)
    observer.end()
    return ExportReport(str(data.folder), to, str(target), source.manifest.image_dtype, sizes)


def _target(to: str, out: str) -> Folder:
    """Return the place of an export, where nothing is yet.

    Raises:
        InputError: if it is another kind of place.
    """
    try:
        target = Folder.at(out)
        require_absent(target)
    except InputError as error:
        raise InputError(f"--out: {error}") from None
    if to == "npz" and not target.path.endswith(".npz"):
        raise InputError(f"--out: {out} must name an .npz file")
    return target


def _data_set(location: str, seed: int | None) -> SurrogateDataset:
    """Return the complete data set of a seed.

    Raises:
        InputError: if there is none, or not one alone.
    """
    sets = [SurrogateDataset.open(folder) for folder in surrogate_folders(location)]
    seeds = [one.manifest.seed for one in sets]
    known = ", ".join(map(str, seeds))
    if seed is not None and seed not in seeds:
        raise InputError(f"--seed: {seed} has no images in {location}, which has those of {known}")
    if seed is None and len(sets) > 1:
        raise InputError(f"--seed: {location} has images of the seeds {known}: choose one")
    data = sets[0] if seed is None else sets[seeds.index(seed)]
    missing, planned = data.missing(), data.manifest.parts
    if missing:
        raise InputError(
            f"{data.folder}: {len(missing)} of {len(planned)} parts are missing: run "
            "`dfshield synthesize` first, with storage.sink=parquet"
        )
    return data


def _keep_card(data: SurrogateDataset, observer: Observer) -> None:
    try:
        keep_card(data.folder, data.manifest)
    except InputError as error:  # it may be somebody else's
        observer.say(f"The data set is left without a card: {error}")


def _arrays_instead(source: ImageSource) -> str:
    """Say why images do not become pictures."""
    manifest = source.manifest
    shape = "x".join(map(str, manifest.image_shape))
    rounded = "" if manifest.image_shape[0] not in (1, 3) else "; --uint8 rounds them to pictures"
    return (
        f"Images are {manifest.image_dtype} {shape}, which PNG cannot hold: they stay arrays "
        f"(the feature Array3D){rounded}"
    )

"""Verifying what a baseline has made: student, generator, samples, checkpoint and results."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from PIL import Image, UnidentifiedImageError

from dfshield.brief import Brief
from dfshield.classifiers import CONFIG_FILE, WEIGHTS_FILE
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.layout import seed_folders
from dfshield.runs.names import CHECKPOINT, EVALUATION, HISTORY, INDEX, STUDENT
from dfshield.runs.records import Record, damage, nothing_yet, read_record
from dfshield.runs.work.baseline import DESCRIPTION, PICTURE, WEIGHTS, baseline_checkpoint
from dfshield.runs.work.result_files import read_records, read_result
from dfshield.storage import Folder, PartVerdict


@dataclass(frozen=True, repr=False)
class BaselineReport(Brief):
    """What ``verify`` found of what a baseline has made for a seed.

    Attributes:
        location: the folder of the run, or of the seed.
        files: one verdict for every file that there is, or was to be.
    """

    location: str
    files: tuple[PartVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is there and verifies."""
        return all(file.verdict == "ok" for file in self.files)

    def to_json(self) -> dict[str, object]:
        """Return the report as a value that ``json.dumps`` takes."""
        return {
            "location": self.location,
            "ok": self.ok,
            "files": [asdict(file) for file in self.files],
        }


def verify_baseline(run: Folder) -> list[BaselineReport]:
    """Verify what the baseline of a run has made, for every seed. Changes nothing.

    Of a finished student the weights are compared with the fingerprint that its record keeps, those
    of the generator with their checksum; the weights of a ``python:`` student, whose code is not
    called, by their size. Of one that is not finished the checkpoint is read. All else is read as
    whoever uses it would.

    Raises:
        InputError: if no student was begun, or its record is damaged.
    """
    return [_verified(folder) for _, folder in seed_folders(run)]


def discard_baseline(report: BaselineReport) -> None:
    """Delete what was found broken, a result with its rows, so that its stage makes it again."""
    folder = Folder.at(report.location)
    for file in report.files:
        if file.verdict == "broken":
            folder.delete(file.path)
        if file.verdict != "ok" and file.path.startswith(f"{EVALUATION}/"):
            stem = file.path.rpartition(".")[0]
            folder.delete(f"{stem}.json")
            folder.delete(f"{stem}.parquet")


def _verified(folder: Folder) -> BaselineReport:
    student = folder.child(STUDENT)
    record = read_record(student)
    if record is None:
        raise nothing_yet(student, "train")
    of_student = _finished(student, record) if record["done"] else _unfinished(student)
    verdicts = [
        *(PartVerdict(f"{STUDENT}/{name}", *found) for name, found in of_student),
        *_results(folder),
    ]
    return BaselineReport(str(folder), tuple(verdicts))


_Found = tuple[Any, str]
"""Verdict and reason."""


def _found(check: Callable[[], object]) -> _Found:
    """Return the verdict on what a function reads."""
    try:
        check()
    except DfshieldError as error:
        return "broken", str(error)
    return "ok", ""


def _unfinished(student: Folder) -> Iterator[tuple[str, _Found]]:
    checkpoint = baseline_checkpoint(student)
    if checkpoint.exists():
        yield CHECKPOINT, _found(checkpoint.load)


def _finished(student: Folder, record: Record) -> Iterator[tuple[str, _Found]]:
    damaged = damage(student, record, record["files"])
    for name in record["files"]:
        if name in damaged:
            verdict = "missing" if damaged[name] == "is missing" else "broken"
            yield name, (verdict, damaged[name] if verdict == "broken" else "")
        else:
            yield name, _found(partial(_CHECKS[name], student, record["summary"]))


def _require_json(name: str) -> Callable[[Folder, Mapping[str, Any]], None]:
    def check(student: Folder, _summary: Mapping[str, Any]) -> None:
        try:
            student.read_json(name)
        except ValueError:
            raise InputError("not valid JSON") from None

    return check


def _require_classifier(student: Folder, summary: Mapping[str, Any]) -> None:
    if describe(student).architecture.source.startswith("python:"):
        return
    if load_classifier(student).fingerprint() != summary["fingerprint"]:
        raise InputError("not the weights that were trained: their fingerprint is another one")


def _require_generator(student: Folder, summary: Mapping[str, Any]) -> None:
    if hashlib.sha256(student.read_bytes(WEIGHTS)).hexdigest() != summary["baseline"]["generator"]:
        raise InputError("not the weights that were trained: their checksum is another one")


def _require_picture(student: Folder, _summary: Mapping[str, Any]) -> None:
    try:
        with Image.open(io.BytesIO(student.read_bytes(PICTURE))) as picture:
            picture.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"not a whole picture: {error}") from None


_CHECKS: Mapping[str, Callable[[Folder, Mapping[str, Any]], object]] = {
    WEIGHTS_FILE: _require_classifier,
    CONFIG_FILE: lambda student, _: describe(student),
    HISTORY: _require_json(HISTORY),
    WEIGHTS: _require_generator,
    DESCRIPTION: _require_json(DESCRIPTION),
    PICTURE: _require_picture,
}


def _results(folder: Folder) -> Iterator[PartVerdict]:
    """Give the verdicts on results and their rows."""
    evaluation = folder.child(EVALUATION)
    files = [name for name in evaluation.list() if "/" not in name]
    names = {name.rpartition(".")[0] for name in files if name.endswith(tuple(_RESULT))}
    if INDEX in files:
        names |= set(evaluation.read_bytes(INDEX).decode(errors="replace").split())
    for name in sorted(names):
        for ending, read in _RESULT.items():
            path = f"{EVALUATION}/{name}{ending}"
            if f"{name}{ending}" not in files:
                yield PartVerdict(path, "missing")
            else:
                yield PartVerdict(path, *_found(partial(read, evaluation, name)))


_RESULT: Mapping[str, Callable[[Folder, str], object]] = {
    ".json": read_result,
    ".parquet": read_records,
}

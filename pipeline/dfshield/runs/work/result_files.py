"""The files of an evaluation: a result with its rows, and the name that both have."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfshield.attacks import ATTACKS, Attack
from dfshield.canonical import identity_hash
from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult, ImageRecords
from dfshield.storage import Folder


def result_name(
    folder: Folder, model: str, attack: Attack | None, identity: Mapping[str, Any]
) -> str:
    """Return the name of a measurement; other settings are measured beside, not over, these.

    It holds a hash of the identity. A result of before counts also where its hash is another one,
    since the attack has had fewer options then, or they had other names.

    Args:
        folder: of the evaluation.
        model: what it is called.
        attack: None for clean images.
        identity: all that the result depends on.

    Raises:
        InputError: if a result is damaged.
    """
    kind = attack.slug if attack else "clean"
    name = f"{model}-{kind}-{identity_hash(identity)[:8]}"
    if attack is None or folder.exists(f"{name}.json"):
        return name
    alike = f"{model}-{kind.rpartition('-')[0]}-"
    for file in folder.list():
        if file.startswith(alike) and file.endswith(".json") and "/" not in file:
            found = read_result(folder, file.removesuffix(".json"))
            if _meaning(_identity_of(found)) == _meaning(identity):
                return file.removesuffix(".json")
    return name


def _identity_of(result: EvaluationResult) -> dict[str, Any]:
    return {
        "model_fingerprint": result.model_fingerprint,
        "data": result.data.identity(),
        "attack": result.attack,
        "seed": result.seed,
        "slice_size": result.slice_size,
        **({} if result.defence is None else {"defence": result.defence}),
    }


def _meaning(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity with its attack by the options' names of now, without their defaults."""
    described = identity["attack"] or {}
    attack = {ATTACKS.renamed.get(key, key): value for key, value in described.items()}
    defaults: dict[str, Any] = {}
    for name in (attack.get("inner"), attack.get("name")):  # Transfer has those of another attack
        if isinstance(name, str) and name in ATTACKS:
            defaults |= ATTACKS.defaults(name)
    set_otherwise = {k: v for k, v in attack.items() if k not in defaults or v != defaults[k]}
    return {**identity, "attack": set_otherwise}


def write_result(
    folder: Folder, name: str, result: EvaluationResult, records: ImageRecords
) -> None:
    """Write the rows of all images, then the result, which says that both are there."""
    sink = pa.BufferOutputStream()
    pq.write_table(records.to_table(), sink)
    folder.write_bytes(f"{name}.parquet", sink.getvalue())
    folder.write_bytes(f"{name}.json", (result.to_json() + "\n").encode())


def read_result(folder: Folder, name: str) -> EvaluationResult:
    """Return a result.

    Raises:
        InputError: if it is missing or damaged.
    """
    path = f"{name}.json"
    return EvaluationResult.from_json(
        folder.read_bytes(path).decode(errors="replace"), source=f"{folder}/{path}"
    )


def read_records(folder: Folder, name: str) -> ImageRecords:
    """Return the rows of a result's images.

    Raises:
        InputError: if the file is missing or damaged.
    """
    path = f"{name}.parquet"
    try:
        table = pq.read_table(pa.BufferReader(folder.read_bytes(path)))
    except pa.ArrowInvalid as error:
        raise InputError(f"{folder}/{path}: not a Parquet file: {error}") from None
    return ImageRecords.from_table(table, source=f"{folder}/{path}")

"""The one JSON text that stands for a value, and hashes over it."""

import hashlib
import json


def canonical_json(value: object, *, ascii_only: bool = False) -> str:
    """Return the one JSON text of a value: keys sorted, no white space, shortest decimals.

    Args:
        value: of JSON values. NaN and infinity are refused, unless ``ascii_only``.
        ascii_only: escape what is not ASCII, as fingerprints of classifiers have always been taken.

    Raises:
        ValueError: for NaN and infinity.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=ascii_only,
        allow_nan=ascii_only,
    )


def identity_hash(identity: object) -> str:
    """Return a SHA-256 (hex) over the canonical JSON of what a result depends on.

    The order of keys does not matter, and reading the identity back from a JSON file gives the same
    hash.

    Raises:
        ValueError: for NaN and infinity.
    """
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()

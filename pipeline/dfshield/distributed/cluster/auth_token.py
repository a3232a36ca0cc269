"""The token file of a local Ray: readable by its owner only."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from dfshield.errors import InputError

_TOKEN_BYTES = 32  # as many as `ray get-auth-token --generate` takes


def prepare_token() -> None:
    """Make sure that the token of a local Ray is readable by its owner only, from its first byte.

    Ray itself would write it with the permissions that the umask leaves.

    Raises:
        InputError: if it cannot be kept where Ray looks for it.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_file()
    try:
        if not path.exists():
            _write_token(path)
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # another user's file, or a mounted one
                path.chmod(0o600)
    except OSError as error:
        raise InputError(
            f"{path}: Ray's token cannot be kept there: {error.strerror}: set RAY_AUTH_TOKEN_PATH "
            "to a file that can be written"
        ) from None


def token_file() -> Path:
    """Return where Ray looks for its token."""
    location = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(location) if location else Path.home() / ".ray" / "auth_token"


def _write_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(_TOKEN_BYTES))
        # A link appears whole, and only once: of two processes that start Ray, both read the same.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()

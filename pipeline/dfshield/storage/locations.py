"""Where a location leads: a local disk or an object store, and errors of both said in one line."""

import errno
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import tenacity

from dfshield.errors import DfshieldError, InputError, one_line

Value = TypeVar("Value")

PATIENCE_S = 60.0
"""How long a store that fails is asked again, beyond the retries of its own client."""

_log = logging.getLogger(__name__)

_AGAIN = "and run the same command again"
_REMEDIES = {
    errno.ENOSPC: f"free some space {_AGAIN}",
    errno.EDQUOT: f"free some space {_AGAIN}",
    errno.EACCES: f"grant the permission or choose another folder, {_AGAIN}",
    errno.EPERM: f"grant the permission or choose another folder, {_AGAIN}",
    errno.EROFS: f"make it writable or choose another folder, {_AGAIN}",
    errno.ENOENT: "no folder can be made there: choose another folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a part of the path is a file: choose another folder",
    errno.EISDIR: "a file is wanted here: choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}
# What stores answer that no further try would change, by their clients' words for it.
_REFUSALS = {
    r"ExpiredToken|TokenRefreshRequired|token .*expired": (
        "the credentials have expired",
        f"renew them {_AGAIN}",
    ),
    r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist|Bucket '.*' not found": (
        "there is no such bucket",
        "create it or choose another one",
    ),
    r"ACCESS_DENIED|AccessDenied|Forbidden|status 40[13]|INVALID_ACCESS_KEY_ID|InvalidAccessKeyId"
    r"|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT"
    r"|MISSING_AUTHENTICATION_TOKEN|[Uu]nauthori[sz]ed|[Nn]o credentials|Unable to locate cred"
    r"|AuthenticationException|OAuth2 access token": (
        "the store refuses access",
        f"give this machine credentials that may use it, {_AGAIN}",
    ),
}
_NEVER_PASS = (ValueError, TypeError, AttributeError, LookupError, NotImplementedError)
# What pyarrow's clients are told unless the URI tells them.
_OPTIONS = {
    "s3": "allow_delayed_open=true",  # a file of a few megabytes is one PUT, not three requests
    "gs": "retry_limit_seconds=30",  # instead of a quarter of an hour
}
_SECRET_OPTIONS = {
    *("access_key", "secret_key", "session_token", "account_key", "sas_token", "key", "secret"),
    *("token", "password", "credential"),
}


def open_store(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a URI and the path inside it.

    pyarrow's own file systems serve their schemes (``s3``, ``gs``, ``hdfs``, ``abfs``, ``file``),
    fsspec's all others. Credentials come from the usual places of the environment.

    Raises:
        InputError: for a scheme that nothing serves, or a URI that holds credentials.
    """
    shown = redacted(location)
    if shown != location:
        raise InputError(
            f"{shown}: a location must not hold credentials, which would stand in files and logs: "
            "set them in the environment or in the store's own configuration file"
        )
    with explained_errors(location):
        return with_retries(lambda: _open(location), location)


def _open(location: str) -> tuple[pafs.FileSystem, str]:
    try:
        parts = urlsplit(location)
        option = _OPTIONS.get(parts.scheme)
        if option is not None and option.partition("=")[0] not in parts.query:
            parts = parts._replace(query=f"{parts.query}&{option}".lstrip("&"))
        try:
            filesystem, path = pafs.FileSystem.from_uri(parts.geturl())
        except pa.ArrowInvalid as error:
            if "Unrecognized filesystem type" not in str(error):
                raise
            filesystem, path = pafs.FileSystem.from_uri(f"fsspec+{location}")
    except (ImportError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"{location}: not a location that can be opened: {one_line(error)}"
        ) from None
    return filesystem, path


def redacted(location: str) -> str:
    """Return a URI with its credentials, if it holds any, replaced by three stars."""
    parts = urlsplit(location)
    user, at, _ = parts.netloc.rpartition("@")
    # abfs://container@account and the like name places, not people.
    if at and ":" in user:
        location = location.replace(f"{user}@", "***@", 1)
    for name, value in parse_qsl(parts.query):
        if name.lower() in _SECRET_OPTIONS and value:
            location = re.sub(rf"(?<=[?&]){re.escape(name)}=[^&]*", f"{name}=***", location)
    return location


@contextmanager
def explained_errors(shown: str) -> Iterator[None]:
    """Turn an error of the file system into one line that names the file and the way out.

    Raises:
        InputError: for what somebody has to mend.
        DfshieldError: for what may pass by itself.
    """
    try:
        yield
    except OSError as error:
        for reason, remedy in _refusals(error):
            raise InputError(f"{shown}: {reason}: {remedy}") from None
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        known = _REMEDIES.get(error.errno or 0)
        if known is None:
            raise DfshieldError(f"{shown}: {reason}: mend it {_AGAIN}") from error
        raise InputError(f"{shown}: {reason}: {known}") from None


def _refusals(error: BaseException) -> list[tuple[str, str]]:
    return [told for words, told in _REFUSALS.items() if re.search(words, str(error))]


def with_retries(action: Callable[[], Value], shown: str) -> Value:
    """Call what asks a store, again and again for a minute while it fails for a passing reason.

    Raises:
        OSError: also in the place of what the store's client may raise of its own.
    """
    result: Value = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10.0),
        stop=tenacity.stop_after_delay(PATIENCE_S),
        before_sleep=lambda state: _say_once(state, shown),
        reraise=True,
    )(_raising_os_errors(action))
    return result


def _say_once(state: tenacity.RetryCallState, shown: str) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        error = state.outcome.exception()
        reason = one_line(error) if error is not None else ""
        _log.warning("%s: %s; asking again for a minute", shown, reason)


def _raising_os_errors(action: Callable[[], Value]) -> Callable[[], Value]:
    def act() -> Value:
        try:
            return action()
        except (OSError, DfshieldError):
            raise
        except Exception as error:  # every client of a store has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from error

    return act


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and not (
        isinstance(error, FileNotFoundError)
        or isinstance(error.__cause__, _NEVER_PASS)
        or error.errno in _REMEDIES
        or _refusals(error)
    )

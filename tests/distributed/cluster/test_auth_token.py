"""The token of a local Ray: made once, for its user alone."""

import threading
from pathlib import Path

import pytest

from dfshield.distributed.cluster.auth_token import prepare_token
from dfshield.errors import InputError


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def test_the_token_is_made_once_when_many_start_at_once(token):
    seen = []
    barrier = threading.Barrier(8)

    def start():
        barrier.wait()
        prepare_token()
        seen.append(token.read_text())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert len(seen[0]) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert list(token.parent.iterdir()) == [token]


def test_a_token_that_others_can_read_is_closed_to_them(token):
    token.parent.mkdir()
    token.write_text("mine")
    token.chmod(0o644)
    prepare_token()
    assert token.read_text() == "mine"
    assert token.stat().st_mode & 0o777 == 0o600


def test_the_token_lies_where_the_user_says(token, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "a" / "token"))
    prepare_token()
    assert (tmp_path / "a" / "token").stat().st_mode & 0o777 == 0o600
    assert not token.exists()


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_TOKEN", "t" * 64), ("RAY_AUTH_MODE", "disabled")]
)
def test_no_token_is_written_that_nobody_needs(token, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    prepare_token()
    assert not token.parent.exists()


def test_a_token_that_cannot_be_kept_is_said_in_one_line(token):
    token.parent.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN_PATH"):
        prepare_token()

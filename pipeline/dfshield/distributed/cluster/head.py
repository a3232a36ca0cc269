"""Whether the head of a Ray cluster is still there."""

import socket
import time

from dfshield.errors import DfshieldError

SECONDS_WITHOUT_HEAD = 45.0
"""Ray itself ends a driver after 60 s, with a message that does not help. A head that keeps its
state elsewhere may come back before."""
_CONNECT_TIMEOUT_S = 2.0


class Head:
    """The head of a cluster, watched by connecting to its GCS.

    Calls to workers need no head, but starting one and asking for nodes do: they block without it.

    Args:
        address: ``host:port`` of the GCS.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._silent_since: float | None = None

    def answers(self) -> bool:
        """Return whether it answers now.

        Raises:
            DfshieldError: if it has not done so for long.
        """
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > SECONDS_WITHOUT_HEAD:
                raise DfshieldError(
                    f"the head of the Ray cluster at {self._address} is gone; what was committed "
                    "is kept: give the same command again on a cluster that lives"
                ) from None
            return False
        self._silent_since = None
        return True

    def wait(self) -> None:
        """Return as soon as it answers.

        Raises:
            DfshieldError: if it has not done so for long.
        """
        while not self.answers():
            time.sleep(1.0)

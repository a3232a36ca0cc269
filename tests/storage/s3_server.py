"""An S3 server of the tests' own, which can be told to misbehave."""

import os
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


@dataclass(frozen=True)
class Request:
    """What was asked of the server."""

    method: str
    path: str
    query: str


@dataclass
class S3Server:
    """The server as tests see it.

    Attributes:
        environment: lets clients find it, and have credentials.
        requests: all that was asked, in order.
        answered: what of it was answered as S3 would.
        stored: the objects that were written, as often as they were.
        sent: how many bytes were sent in answer to GET, by path; listings have the bucket's.
        fault: called with every request; whatever it returns is done instead of answering: a
            number is an HTTP status, ``expired`` refuses the credentials, ``cut`` closes the
            connection in the middle of the upload; None answers as S3 would.
    """

    environment: dict[str, str]
    requests: list[Request] = field(default_factory=list)
    answered: list[Request] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    fault: Callable[[Request], int | str | None] = lambda _: None

    def times(self, number: int, what: int | str, method: str, words: str = "") -> None:
        """Fail so often for requests of this method whose path holds these words."""
        left = [number]
        lock = threading.Lock()

        def fault(request: Request) -> int | str | None:
            with lock:
                if left[0] and request.method == method and words in request.path:
                    left[0] -= 1
                    return what
            return None

        self.fault = fault

    def slow(self, seconds: float, method: str) -> None:
        """Answer requests of this method late."""

        def fault(request: Request) -> None:
            if request.method == method:
                time.sleep(seconds)

        self.fault = fault


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: object) -> None:
        pass


def _completes(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def run_server() -> Iterator[S3Server]:
    """Serve S3 with one bucket until the generator is closed."""
    s3 = DomainDispatcherApplication(create_backend_app)
    server = S3Server({})
    counting = threading.Lock()

    def app(environ, start_response):
        request = Request(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        )
        what = server.fault(request)
        server.requests.append(request)
        if what is None:
            server.answered.append(request)

            def answered(status, headers, *rest):
                whole = request.method == "PUT" and "uploadId" not in request.query
                if status.startswith("200") and (whole or _completes(request)):
                    server.stored.append(request.path)
                return start_response(status, headers, *rest)

            answer = list(s3(environ, answered))
            if request.method == "GET":
                with counting:
                    server.sent[request.path] += sum(map(len, answer))
            return answer
        if what == "cut":
            size = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"].read(size // 2)
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, code = (
            ("400 Bad Request", "ExpiredToken")
            if what == "expired"
            else (f"{what} Error", "InternalError")
        )
        body = _ERROR.format(code, "The provided token has expired.").encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]

    http = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.environment.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{http.server_port}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="a-secret-key",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )
    yield server
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server with an empty bucket; the environment of this process leads to it."""
    import boto3

    running = run_server()
    server = next(running)
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    reset = urllib.request.Request(f"{server.environment['AWS_ENDPOINT_URL']}/moto-api/reset")
    reset.method = "POST"  # what is stored outlives the server
    urllib.request.urlopen(reset).close()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    server.requests.clear()
    server.stored.clear()
    server.sent.clear()
    yield server
    next(running, None)

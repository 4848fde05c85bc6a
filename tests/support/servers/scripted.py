"""An HTTP service on this machine that answers as a test says, and keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its method and path in ``line``, its headers by names in lower case, its body as JSON or text."""

    line: str
    query: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A status other than 200, or headers, with a body."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Scripted:
    """``answers`` by method and path, such as ``GET /jobs/1``.

    An answer is an ``Answer``, a body that is sent with status 200, a list of these, one a request, the last of
    them for good, or a function of the request that returns one of these. A request without an answer gets 404.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Any] = {}
        self.asked: list[Asked] = []
        #: Most requests that were in work at the same time.
        self.most = 0
        self._in_work = 0
        self._lock = threading.Lock()

    @property
    def lines(self) -> list[str]:
        """Return the methods and paths of all requests, in order."""
        return [asked.line for asked in self.asked]

    def bodies(self, line: str) -> list[Any]:
        """Return the bodies of the requests with this method and path, in order."""
        return [asked.body for asked in self.asked if asked.line == line]

    def answer(self, asked: Asked) -> Answer:
        """Keep the request and return its answer."""
        with self._lock:
            self.asked.append(asked)
            self._in_work += 1
            self.most = max(self.most, self._in_work)
            found = self.answers.get(asked.line, Answer(404, {"error": f"nothing at {asked.line}"}))
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            function: Callable[[Asked], Any] = found
            found = function(asked)
        return found if isinstance(found, Answer) else Answer(200, found)

    def done(self) -> None:
        """Count one request less as in work."""
        with self._lock:
            self._in_work -= 1


class _Server(ThreadingHTTPServer):
    service: Scripted


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _respond(self) -> None:
        path, _, query = self.path.partition("?")
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_json = headers.get("content-type", "").startswith("application/json")
        body = json.loads(text) if is_json else text
        answer = self.server.service.answer(Asked(f"{self.command} {path}", query, headers, body))
        self.server.service.done()
        is_text = isinstance(answer.body, str)
        content = answer.body.encode() if is_text else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/plain; charset=utf-8" if is_text else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = _respond  # noqa: N815 - the names that BaseHTTPRequestHandler looks for
    do_POST = _respond  # noqa: N815
    do_PUT = _respond  # noqa: N815
    do_PATCH = _respond  # noqa: N815
    do_DELETE = _respond  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Serve on a free port of loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.service = Scripted(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A receiver of webhooks on this machine: notes each request, and answers as a test has it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True)
class Received:
    """One request, with the names of its headers in lower case."""

    headers: dict[str, str]
    body: str

    def verified(self, secret: str) -> dict[str, Any]:
        """The event, by the verifier of Standard Webhooks."""
        event: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return event

    @property
    def id(self) -> str:
        """The ``webhook-id``."""
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """What came, and what is answered: the statuses in turn, the last of them for good."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    answer: bytes = b"thank you"
    #: Called with the handler instead of sending an answer.
    instead: Callable[[BaseHTTPRequestHandler], None] | None = None
    received: list[Received] = field(default_factory=list)
    #: Requests are answered while it is set.
    open: threading.Event = field(default_factory=threading.Event)

    def status(self) -> int:
        """The status of the next answer."""
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve on a free port of loopback."""
    receiver = Receiver()
    receiver.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(headers, body.decode()))
            receiver.open.wait()
            if receiver.instead is not None:
                receiver.instead(self)
                return
            self.send_response(receiver.status())
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the sender had enough
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()
        thread.join()

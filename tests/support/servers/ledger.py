"""A service that notes every call that a workflow makes to it, and can keep a caller waiting."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call: of which run, by which node, when (POSIX seconds)."""

    run: str
    node: str
    at: float


class Ledger:
    """What was called: on disk before the caller has its answer."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._held: dict[str, threading.Event] = {}
        self.url = ""
        #: Seconds that each answer takes.
        self.pace = 0.0

    def hold(self, node: str) -> None:
        """Answer no call of this node until it is released."""
        self._held[node] = threading.Event()

    def release(self, node: str) -> None:
        """Answer those who wait, and whoever comes from now on."""
        self._held.pop(node).set()

    def calls(self, node: str | None = None) -> list[Call]:
        """The calls so far, in order; those of one node if it is named."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        noted = [Call(**json.loads(line)) for line in lines]
        return [call for call in noted if node in (None, call.node)]

    def node(self, name: str, *depends_on: str) -> dict[str, Any]:
        """A workflow node that calls this service."""
        return {
            "id": name,
            "type": "http",
            "depends_on": list(depends_on),
            "config": {"url": f"{self.url}/{{{{ run.id }}}}/{name}", "timeout": 60},
        }

    def note(self, run: str, node: str) -> None:
        """Write a call down, then keep its caller waiting if that is wanted."""
        with self._lock, self._file.open("a") as file:
            file.write(json.dumps({"run": run, "node": node, "at": time.time()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        held = self._held.get(node)
        if held is not None:
            held.wait()
        elif self.pace:
            threading.Event().wait(self.pace)


@contextmanager
def serving(file: Path) -> Iterator[Ledger]:
    """A ledger that listens on a loopback port."""
    ledger = Ledger(file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, run, node = self.path.split("/")
            ledger.note(run, node)
            body = json.dumps({"node": node}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Service(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A caller that was killed is why we are here."""

    with Service(("127.0.0.1", 0), Handler) as service:
        ledger.url = f"http://127.0.0.1:{service.server_address[1]}"
        threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True).start()
        yield ledger
        for node in list(ledger._held):
            ledger.release(node)
        service.shutdown()

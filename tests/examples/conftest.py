"""A local HTTP service with what the examples talk to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Service:
    """`/rates`, `/alerts` (kept), `/flaky` (fails `failures` times), `/private` (wants the token `sesame-open`)."""

    def __init__(self) -> None:
        self.alerts: list[Any] = []
        self.failures = 0
        self.requests: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service.answer(self.path, dict(self.headers))
                self._send(status, body)

            def do_POST(self) -> None:
                service.alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._send(200, {"ok": True})

            def _send(self, status: int, body: Any) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        self.requests.append(path)
        if path == "/rates":
            return 200, {"base": "EUR", "rates": {"USD": 1.17, "GBP": 0.86}}
        if path == "/flaky":
            self.failures -= 1
            return (503, {"error": "try again"}) if self.failures >= 0 else (200, {"levels": {"MUG-01": 40}})
        if path == "/private":
            known = headers.get("Authorization") == "Bearer sesame-open"
            return (200, {"account": "ada", "plan": "team"}) if known else (401, {"error": "who are you?"})
        return 404, {"error": path}


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()

"""A local HTTP service with what the examples talk to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Service:
    """`/rates`, `/alerts` (kept), `/flaky` (fails `failures` times), `/private` (wants the token `sesame-open`)."""

    def __init__(self) -> None:
        self.alerts: list[Any] = []
        self.failures = 0
        #: Of shops: what was done, in order, shared by several services; the path that is out of order.
        self.log: list[str] = []
        self.broken: str | None = None
        self.customers: list[Any] = []
        #: What the language model says next.
        self.says: list[str] = []
        self.requests: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service.answer(self.path, dict(self.headers))
                self._send(status, body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = service.answer_post(self.path, body, dict(self.headers))
                self._send(status, answer)

            def do_DELETE(self) -> None:
                service.log.append(f"DELETE {self.path}")
                self._send(200, {"gone": self.path})

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

    def answer_post(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        if path == "/customers":
            if "@" not in body["email"]:
                return 422, {"error": f"{body['email']} is not an e-mail address"}
            self.customers.append(body)
            return 201, {"id": body["id"]}
        if path == "/v1/chat/completions":
            if headers.get("Authorization") != "Bearer sesame-open":
                return 401, {"error": {"message": "who are you?"}}
            message = {"role": "assistant", "content": self.says.pop(0)}
            usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return 200, {"model": body["model"], "choices": [choice], "usage": usage}
        if path in ("/orders", "/charges", "/reservations", "/confirmations"):
            if path == self.broken:
                return 409, {"error": "not today"}
            self.log.append(f"POST {path}")
            return 201, {"id": f"{path[1:-1]}-1"}
        self.alerts.append(body)
        return 200, {"ok": True}


@contextmanager
def running() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with running() as started:
        yield started


@pytest.fixture
def shop() -> Iterator[dict[str, Service]]:
    """Three services that write one log: `orders`, `payments`, `stock`."""
    with running() as orders, running() as payments, running() as stock:
        payments.log = stock.log = orders.log
        yield {"orders": orders, "payments": payments, "stock": stock}

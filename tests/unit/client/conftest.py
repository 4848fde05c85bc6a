"""A real HTTP server with answers given by a test, and both clients behind one way of calling them."""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pyflow_client import FOLLOWING, AsyncClient, Client, Retries

JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Gives its answers in their order, the last one again and again. ``asked`` are the requests so far."""

    port: int = 0
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Queue an answer; a body that is not bytes is sent as JSON. Status 0 breaks the connection."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, JSON | (headers or {}), content))

    def next(self) -> tuple[int, dict[str, str], bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server() -> Iterator[Server]:
    script = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            script.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            status, headers, content = script.next()
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815 - the names that http.server looks for

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        script.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield script
        listening.shutdown()
        thread.join()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: Server) -> Callable[..., Any]:
    """``ask("run", id)`` calls that method of a client of either kind; what comes bit by bit comes as a list.

    With ``into``, a list that has what came before an error.
    """
    retries = Retries(attempts=3, seconds=5, first_wait=0.01)
    following = replace(FOLLOWING, first_wait=0.01, longest_wait=0.02)

    def sync_ask(name: str, *args: Any, into: list[Any] | None = None, **kwargs: Any) -> Any:
        found = [] if into is None else into
        with Client(server.url, "key", timeout=5, retries=retries, following=following) as client:
            result = getattr(client, name)(*args, **kwargs)
            if not inspect.isgenerator(result):
                return result
            for item in result:
                found.append(item)
            return found

    async def async_ask(name: str, *args: Any, into: list[Any] | None = None, **kwargs: Any) -> Any:
        found = [] if into is None else into
        async with AsyncClient(server.url, "key", timeout=5, retries=retries, following=following) as client:
            result = getattr(client, name)(*args, **kwargs)
            if not inspect.isasyncgen(result):
                return await result
            async for item in result:
                found.append(item)
            return found

    if request.param == "sync":
        return sync_ask
    return lambda *args, **kwargs: asyncio.run(async_ask(*args, **kwargs))

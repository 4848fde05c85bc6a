"""Tools of node tests: an HTTP server with answers given by a test, and runs of one node."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pyflow.core.ports import Clock, MappingSecrets
from pyflow.core.result import NodeRun, RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine

#: Bytes of a body that are kept; larger ones are counted only.
KEPT = 1024 * 1024


@dataclass
class Asked:
    """A request that arrived. `size`: the bytes of its body, of which `body` has the first `KEPT`; `over`: it is in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    size: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Web:
    """The server: `answer` is asked for the reply to each request."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.arriving: Callable[[], object] = lambda: None  # called when a body has begun to arrive
        self.answer: Callable[[Asked], Reply] = lambda asked: Reply({})
        self.url = ""
        self.released = threading.Event()


@contextmanager
def serving() -> Iterator[Web]:
    """A `Web` on loopback until the block ends."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, b"")
            web.asked.append(asked)
            expected = int(headers.get("content-length", 0))
            if expected:
                self.receive(asked, expected)
            asked.over.set()
            if asked.size < expected:  # broken off: there is nobody to answer to
                self.close_connection = True
                return
            reply = web.answer(asked)
            content = reply.content()
            self.send_response(reply.status)
            for name, value in reply.headers.items() if isinstance(reply.headers, Mapping) else reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def receive(self, asked: Asked, expected: int) -> None:
            while asked.size < expected and (chunk := self.rfile.read1(min(expected - asked.size, 64 * 1024))):
                asked.body += chunk[: max(0, KEPT - len(asked.body))]
                if not asked.size:
                    web.arriving()
                asked.size += len(chunk)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the base class

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True  # kept-alive connections do not keep the test

    with Server(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        web.url = f"http://127.0.0.1:{httpd.server_port}"
        yield web
        web.released.set()
        httpd.shutdown()
        thread.join()


def workflow(*nodes: Mapping[str, Any], **more: Any) -> WorkflowDef:
    """A version 2 workflow of these nodes."""
    return WorkflowDef.model_validate({"version": 2, "name": "w", "nodes": list(nodes), **more})


async def run(
    *nodes: Mapping[str, Any],
    secrets: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    input: Mapping[str, Any] | None = None,
    **more: Any,
) -> RunResult:
    """Run a workflow of these nodes."""
    engine = WorkflowEngine(secrets=MappingSecrets(secrets or {}), clock=clock)
    return await engine.execute(workflow(*nodes, **more), run_id="run-1", input=input)


async def node(type_: str, config: Mapping[str, Any], **more: Any) -> NodeRun:
    """Run a workflow of one node and return what became of it."""
    result = await run({"id": "n", "type": type_, "config": dict(config)}, **more)
    return result.nodes["n"]

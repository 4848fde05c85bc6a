"""v1's small HTTP server: workflows of a directory, started by a request that waits for the result.

One process, no database. A plain ASGI application, so that it needs no web framework; the platform is another program.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import DocumentError, PyFlowError
from pyflow.core.ids import new_id
from pyflow.core.ports import EnvironmentSecrets
from pyflow.documents import reading
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.validation.loader import load_workflow, workflow_files

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = reading.MAX_BYTES
_TRIGGER = re.compile(r"/trigger/([^/]+)")
_log = logging.getLogger(__name__)


def create_app(workflows_dir: Path | str) -> App:
    """The application for the workflows of a directory.

    ``PYFLOW_API_KEY`` is read now: with it, ``/trigger/…`` and ``/reload`` need ``Authorization: Bearer KEY``. Files
    that are no workflows are logged and left out. Raises ``DocumentError`` if there are only such.
    """
    return _Server(Path(workflows_dir), os.environ.get("PYFLOW_API_KEY") or None)


class _RefusedError(Exception):
    """The request ends here with an error status."""

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = tuple(headers)


class _Server:
    def __init__(self, directory: Path, key: str | None) -> None:
        self._directory = directory
        self._key = None if key is None else key.encode("utf-8", "surrogateescape")
        self._engine = WorkflowEngine(registry=default_registry, secrets=EnvironmentSecrets())
        self._files: dict[Path, WorkflowDef] = {}
        self._workflows: dict[str, WorkflowDef] = {}
        refused = self._load()
        if refused and not self._files:
            raise DocumentError("\n".join(refused))
        for line in refused:
            _log.warning("This file is left out: %s", line)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except _RefusedError as refused:
            await _send(send, refused.status, {"detail": str(refused)}, refused.headers)
        else:
            await _send(send, 200, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> object:
        method, path = scope["method"], scope["path"]
        if path == "/health":
            _require_method(method, "GET")
            return {"status": "ok"}
        if path == "/workflows":
            _require_method(method, "GET")
            return [self._summary(workflow) for workflow in self._workflows.values()]
        if path == "/reload":
            _require_method(method, "POST")
            self._require_key(scope)
            return self._reload()
        if match := _TRIGGER.fullmatch(path):
            _require_method(method, "POST")
            self._require_key(scope)
            return await self._trigger(match[1], await _read_object(scope, receive))
        raise _RefusedError(404, "Not Found")

    async def _trigger(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        workflow = self._workflows.get(name)
        if workflow is None:
            raise _RefusedError(404, f"Workflow not found: {name}")
        run_id = new_id()
        try:
            context = await self._engine.run(workflow, run_id=run_id, initial_context={"trigger": body})
        except Exception:  # noqa: BLE001 - a run fails in any way; this is the last place that can log it
            # What went wrong may hold anything; the caller gets the id to look it up by.
            _log.exception("run %s of workflow %s could not be carried out", run_id, name)
            raise _RefusedError(500, f"Workflow execution failed. Run ID: {run_id}") from None
        return {"run_id": run_id, "results": _outcomes(workflow, context)}

    def _reload(self) -> dict[str, Any]:
        if refused := self._load():
            raise _RefusedError(422, "\n".join(("These files were not reloaded, all others were:", *refused)))
        return {"status": "ok", "workflows": len(self._workflows)}

    def _load(self) -> list[str]:
        """Read all files again and return what is wrong with some: those are served as they were before."""
        files: dict[Path, WorkflowDef] = {}
        refused: list[str] = []
        for path in workflow_files(self._directory):
            try:
                files[path] = load_workflow(path)
            except (PyFlowError, OSError) as error:
                refused.append(f"{path.name}: {error}")
                if path in self._files:
                    files[path] = self._files[path]
        self._files = files
        self._workflows = {workflow.name: workflow for workflow in files.values()}
        return refused

    @staticmethod
    def _summary(workflow: WorkflowDef) -> dict[str, Any]:
        return {"name": workflow.name, "trigger": workflow.all_triggers()[0].type, "nodes": len(workflow.nodes)}

    def _require_key(self, scope: Scope) -> None:
        if self._key is None:
            return
        scheme, _, credentials = _header(scope, b"authorization").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.strip(), self._key):
            raise _RefusedError(401, "Invalid or missing API key", [(b"www-authenticate", b"Bearer")])


def _outcomes(workflow: WorkflowDef, context: ExecutionContext) -> dict[str, str]:
    return {node.id: _outcome(context, node.id) for node in workflow.nodes}


def _outcome(context: ExecutionContext, node_id: str) -> str:
    if context.has_error(node_id):
        return context.redactor.redact_message(f"error: {context.get_error(node_id)}")
    return "ok" if context.has_result(node_id) else "skipped"


def _require_method(method: str, allowed: str) -> None:
    if method != allowed:
        raise _RefusedError(405, "Method Not Allowed", [(b"allow", allowed.encode())])


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key.lower() == name), b"")


async def _read_object(scope: Scope, receive: Receive) -> dict[str, Any]:
    """The JSON object in the body, ``{}`` without a body."""
    declared = _header(scope, b"content-length")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY:
        raise _RefusedError(413, f"The body has more than {MAX_BODY:,} bytes")
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "The client is gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise _RefusedError(413, f"The body has more than {MAX_BODY:,} bytes")
    if not body.strip():
        return {}
    try:
        data = reading.read_json(reading.decode(bytes(body))).data
    except PyFlowError as error:
        raise _RefusedError(422, str(error)) from None
    if data is not None and not isinstance(data, dict):
        raise _RefusedError(422, "The body has to be a JSON object")
    return data or {}


async def _send(send: Send, status: int, content: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = orjson.dumps(content)
    standard = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*standard, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

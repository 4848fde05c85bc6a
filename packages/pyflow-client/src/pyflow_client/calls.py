"""Every request that the client can make, described once and without I/O: what is sent, and what the answer means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel

from pyflow_client.models import (
    Batch,
    Data,
    DryRun,
    EventKinds,
    EventLogPage,
    EventPage,
    Health,
    NodeRunDetail,
    NodeType,
    Nothing,
    Page,
    Patch,
    Plugin,
    Run,
    Text,
    Value,
    Verdict,
    Version,
    Workflow,
)

AnswerT = TypeVar("AnswerT", bound=BaseModel)
#: A value in the query of a request: of several, each is sent.
Param = int | str | Sequence[str]
#: A value that a list is filtered by.
Filter = Param | datetime
#: A workflow: the text of a YAML or JSON document, or the document as a mapping.
Document = str | Mapping[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True, repr=False)
class Call(Generic[AnswerT]):
    """One request. ``answer`` is the model of a successful answer, ``accepts`` further statuses that are one.

    ``repeatable``: sending it again does no harm, so it is retried.
    ``patience``: for how many seconds, beyond the usual ones, the server was asked to take its time.
    """

    method: Method
    path: str
    answer: type[AnswerT]
    params: Mapping[str, Param] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/json"
    repeatable: bool = True
    accepts: frozenset[int] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = 0.0

    def __repr__(self) -> str:
        # Retries are logged with their arguments: no document belongs into a log.
        return f"{self.method} {self.path}"


def get_workflow(name: str) -> Call[Workflow]:
    """One workflow with its definition."""
    return Call("GET", f"api/v1/workflows/{segment(name)}", Workflow)


def create_workflow(document: Document) -> Call[Workflow]:
    """A new workflow."""
    content, content_type = encode(document)
    return Call("POST", "api/v1/workflows", Workflow, content=content, content_type=content_type, repeatable=False)


def put_workflow(name: str, document: Document) -> Call[Workflow]:
    """A workflow, new or as a new version. Repeatable: a document that changes nothing makes no version."""
    content, content_type = encode(document)
    return Call("PUT", f"api/v1/workflows/{segment(name)}", Workflow, content=content, content_type=content_type)


def patch_workflow(name: str, changes: Mapping[str, Any], if_match: str) -> Call[Workflow]:
    """A new version, by a JSON Merge Patch. Not repeatable: the second time it may be another one that is changed."""
    content, headers = json.dumps(dict(changes)).encode(), {"If-Match": if_match}
    path, content_type = f"api/v1/workflows/{segment(name)}", "application/merge-patch+json"
    return Call("PATCH", path, Workflow, content=content, content_type=content_type, headers=headers, repeatable=False)


def archive_workflow(name: str, *, archived: bool) -> Call[Workflow]:
    """The end of a workflow's use, or its return. Repeatable: twice is once."""
    verb = "archive" if archived else "unarchive"
    return Call("POST", f"api/v1/workflows/{segment(name)}/{verb}", Workflow)


def delete_workflow(name: str) -> Call[Nothing]:
    """The end of a workflow. Not repeatable: the second time there is no such workflow."""
    return Call("DELETE", f"api/v1/workflows/{segment(name)}", Nothing, repeatable=False)


def versions_path(name: str) -> str:
    """Return the path of the versions of a workflow."""
    return f"api/v1/workflows/{segment(name)}/versions"


def get_version(name: str, number: int) -> Call[Version]:
    """One version with its definition."""
    return Call("GET", f"{versions_path(name)}/{number:d}", Version)


def source(name: str, number: int | None, format: str) -> Call[Text]:
    """The document of a version, or of the current one."""
    path = f"api/v1/workflows/{segment(name)}" if number is None else f"{versions_path(name)}/{number:d}"
    return Call("GET", path, Text, params={"format": format})


def create_draft(name: str, document: Document) -> Call[Version]:
    """A draft. Not repeatable: a second request makes a second one."""
    content, content_type = encode(document)
    path = versions_path(name)
    return Call("POST", path, Version, content=content, content_type=content_type, repeatable=False)


def edit_draft(name: str, number: int, document: Document, if_match: str) -> Call[Version]:
    """Another document for a draft."""
    content, content_type = encode(document)
    path, headers = f"{versions_path(name)}/{number:d}", {"If-Match": if_match}
    return Call("PUT", path, Version, content=content, content_type=content_type, headers=headers)


def delete_draft(name: str, number: int) -> Call[Nothing]:
    """The end of a draft. Not repeatable: the second time there is no such version."""
    return Call("DELETE", f"{versions_path(name)}/{number:d}", Nothing, repeatable=False)


def change_version(name: str, number: int, verb: Literal["publish", "archive", "rollback"]) -> Call[Version]:
    """A version published, archived or brought back. Not repeatable: the second time it is in another state."""
    return Call("POST", f"{versions_path(name)}/{number:d}/{verb}", Version, repeatable=False)


def diff(name: str, before: int, after: int) -> Call[Data]:
    """The differences in meaning between two versions."""
    return Call("GET", f"{versions_path(name)}/diff", Data, params={"from": before, "to": after})


def diff_text(name: str, before: int, after: int) -> Call[Text]:
    """The lines in which the documents of two versions differ."""
    params: dict[str, int | str] = {"from": before, "to": after, "format": "text"}
    return Call("GET", f"{versions_path(name)}/diff", Text, params=params)


def diff_patch(name: str, before: int, after: int) -> Call[Patch]:
    """The operations that make one version's definition the other's."""
    params: dict[str, int | str] = {"from": before, "to": after, "format": "json-patch"}
    return Call("GET", f"{versions_path(name)}/diff", Patch, params=params)


def validate(document: Document) -> Call[Verdict]:
    """The verdict on a document."""
    content, content_type = encode(document)
    return Call("POST", "api/v1/workflows/validate", Verdict, content=content, content_type=content_type)


def dry_run(name: str, input: Mapping[str, Any] | None, version: int | None) -> Call[DryRun]:
    """The result of a dry run."""
    body = {"input": dict(input or {})} | ({} if version is None else {"version": version})
    return json_call("POST", f"api/v1/workflows/{segment(name)}/dry-run", DryRun, body)


def dry_run_document(document: Document, input: Mapping[str, Any] | None) -> Call[DryRun]:
    """Plan a run of a document."""
    format = {} if not isinstance(document, str) else {"format": encode(document)[1].rpartition("/")[2]}
    body = {"document": document if isinstance(document, str) else dict(document), "input": dict(input or {}), **format}
    return json_call("POST", "api/v1/workflows/dry-run", DryRun, body)


def workflow_schema() -> Call[Data]:
    """The JSON Schema of workflows."""
    return Call("GET", "api/v1/workflows/schema", Data)


def graph(name: str, version: int | None) -> Call[Data]:
    """The graph of a workflow as data."""
    return Call("GET", f"api/v1/workflows/{segment(name)}/graph", Data, params=_given(version=version))


def drawing(name: str, format: str, version: int | None) -> Call[Text]:
    """The graph of a workflow as text that draws it."""
    params: dict[str, Param] = {"format": format, **_given(version=version)}
    return Call("GET", f"api/v1/workflows/{segment(name)}/graph", Text, params=params)


def node_types() -> Call[Page[NodeType]]:
    """The catalogue, which has no pages."""
    return Call("GET", "api/v1/nodes", Page[NodeType])


def node_type(type: str) -> Call[NodeType]:
    """One node type."""
    return Call("GET", f"api/v1/nodes/{segment(type)}", NodeType)


def plugins() -> Call[Page[Plugin]]:
    """The plugins, which have no pages."""
    return Call("GET", "api/v1/plugins", Page[Plugin])


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The start of a run; fields that are ``None`` are left to the server.

    ``version`` is the number of a published version; ``labels`` are added to the workflow's own; ``priority`` is 1
    (last) to 9 (first); a workflow has one run of each ``key``.
    """

    input: Mapping[str, Any] | None = None
    version: int | None = None
    labels: Mapping[str, str] | None = None
    priority: int | None = None
    key: str | None = None

    def body(self) -> dict[str, Any]:
        """Return the body as the server expects it."""
        options = _given(version=self.version, priority=self.priority, key=self.key)
        labels = {} if self.labels is None else {"labels": dict(self.labels)}
        return {"input": dict(self.input or {}), **labels, **options}


def start_run(workflow: str, start: Start, *, wait: int | None, idempotency_key: str | None) -> Call[Run]:
    """A run. Repeatable with a key of either kind; without one, a second request starts a second run."""
    headers = _idempotent(idempotency_key) | ({} if wait is None else {"Prefer": f"wait={wait:d}"})
    return json_call(
        "POST",
        _runs_path(workflow),
        Run,
        start.body(),
        headers=headers,
        repeatable=idempotency_key is not None or start.key is not None,
        patience=wait or 0,
    )


def start_runs(workflow: str, starts: Iterable[Start], *, idempotency_key: str | None) -> Call[Batch]:
    """Many runs. Repeatable with an ``Idempotency-Key``."""
    body = {"runs": [start.body() for start in starts]}
    headers, repeatable = _idempotent(idempotency_key), idempotency_key is not None
    return json_call("POST", f"{_runs_path(workflow)}/batch", Batch, body, headers=headers, repeatable=repeatable)


def run_path(run_id: str | UUID) -> str:
    """Return the path of a run; its parts are below it."""
    return f"api/v1/runs/{segment(str(run_id))}"


def node_path(run_id: str | UUID, node_id: str) -> str:
    """Return the path of a node of a run."""
    return f"{run_path(run_id)}/nodes/{segment(node_id)}"


def get_node(run_id: str | UUID, node_id: str) -> Call[NodeRunDetail]:
    """One node of a run with its attempts."""
    return Call("GET", node_path(run_id, node_id), NodeRunDetail)


def input_of(run_id: str | UUID) -> Call[Value]:
    """Read the input of a run."""
    return Call("GET", f"{run_path(run_id)}/input", Value)


def outputs_of(run_id: str | UUID) -> Call[Value]:
    """Read the outputs of a run."""
    return Call("GET", f"{run_path(run_id)}/outputs", Value)


def output_of(run_id: str | UUID, node_id: str, item: int | None) -> Call[Value]:
    """Read the output of a node, or of an item of it."""
    where = node_path(run_id, node_id) if item is None else f"{node_path(run_id, node_id)}/items/{item}"
    return Call("GET", f"{where}/output", Value)


def run_graph(run_id: str | UUID) -> Call[Data]:
    """The graph of a run as data."""
    return Call("GET", f"{run_path(run_id)}/graph", Data)


def run_drawing(run_id: str | UUID, format: str) -> Call[Text]:
    """The graph of a run as text that draws it."""
    return Call("GET", f"{run_path(run_id)}/graph", Text, params={"format": format})


def get_run(run_id: str | UUID, wait: int | None = None) -> Call[Run]:
    """One run, as it is, or once it has ended."""
    headers = {} if wait is None else {"Prefer": f"wait={wait:d}"}
    return Call("GET", run_path(run_id), Run, headers=headers, patience=wait or 0)


def events(run_id: str | UUID, after: int, limit: int) -> Call[EventPage]:
    """The events of a run after the one numbered ``after``."""
    params = {"after": after, "limit": limit}
    return Call("GET", f"{run_path(run_id)}/events", EventPage, params=params)


def event_log(after: str | None, limit: int, filters: Mapping[str, Filter]) -> Call[EventLogPage]:
    """Read events of the tenant after a cursor."""
    params: dict[str, Param] = query(filters) | {"limit": limit}
    if after is not None:
        params["after"] = after
    return Call("GET", "api/v1/events", EventLogPage, params=params)


def event_types() -> Call[EventKinds]:
    """Read the types of events."""
    return Call("GET", "api/v1/events/types", EventKinds)


def health() -> Call[Health]:
    """Read whether the server is ready. Never retried: the caller wants to know the present state."""
    return Call("GET", "api/v1/health/ready", Health, repeatable=False, accepts=frozenset({503}))


def json_call(
    method: Method,
    path: str,
    answer: type[AnswerT],
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    repeatable: bool = True,
    patience: float = 0.0,
) -> Call[AnswerT]:
    """A request whose body is JSON."""
    content, headers = json.dumps(dict(body)).encode(), headers or {}
    return Call(method, path, answer, content=content, headers=headers, repeatable=repeatable, patience=patience)


def query(filters: Mapping[str, Filter]) -> dict[str, Param]:
    """Filters as the query of a request: times in RFC 3339; a naive one is local time."""
    return {
        name: value.astimezone().isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
    }


def encode(document: Document) -> tuple[bytes, str]:
    """The body and media type of a document. Text that is JSON is sent as JSON, any other as YAML."""
    if not isinstance(document, str):
        return json.dumps(dict(document)).encode(), "application/json"
    try:
        json.loads(document)
    except ValueError:
        return document.encode(), "application/yaml"
    return document.encode(), "application/json"


def _runs_path(workflow: str) -> str:
    return f"api/v1/workflows/{segment(workflow)}/runs"


def _idempotent(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _given(**params: int | str | None) -> dict[str, Param]:
    return {name: value for name, value in params.items() if value is not None}


def segment(text: str) -> str:
    """``text`` as one segment of a path. ``ValueError`` for what no path can hold as a segment."""
    if text in {"", ".", ".."}:
        raise ValueError(f"{text!r} names nothing")
    return quote(text, safe="")

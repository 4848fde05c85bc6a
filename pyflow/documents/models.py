"""Workflow definitions as models: what files parse to, the API stores and the DSL builds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from pyflow.core.document import Document
from pyflow.core.duration import Duration, Size
from pyflow.core.messages import show
from pyflow.documents.described import DescribedModel

#: Keys that begin with this are the author's own: kept, and never looked at.
OWN_PREFIX = "x-"


class OnError(StrEnum):
    """The meaning of a failed node for its run.

    ``stop``: nothing that is not running yet starts (but see ``run_if``). ``skip``: the failure is noted and tolerated.
    ``retry``: v1's way to ask for more attempts; version 2 retries wherever ``retry`` is given. ``continue`` (version
    2): the run will fail, yet everything that does not depend on the node goes on.
    """

    SKIP = "skip"
    STOP = "stop"
    RETRY = "retry"
    CONTINUE = "continue"


class RunIf(StrEnum):
    """Rules about the ends of its dependencies with which a node starts (version 2)."""

    ALL_SUCCEEDED = "all_succeeded"
    NONE_FAILED = "none_failed"
    ALL_DONE = "all_done"
    ANY_FAILED = "any_failed"
    ANY_SUCCEEDED = "any_succeeded"


#: Whose workers do the work: ``celery worker -Q NAME``.
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]


class _Model(DescribedModel):
    # Unknown keys are kept: v1 ignored them, the checker refuses them in version 2, with a suggestion.
    model_config = ConfigDict(extra="allow")


class TriggerDef(_Model):
    """A trigger of a workflow: how runs of it are started."""

    type: Literal["manual", "webhook", "schedule", "event"]
    """A trigger of the workflow."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Depends on the type: ``{cron}`` or ``{interval_seconds}`` for a schedule, ``{path}`` for a webhook."""
    id: str | None = None
    """Names the trigger among several (version 2)."""


class Unset(Enum):
    """Marks a field that was not given, where every value could be given, ``null`` too."""

    UNSET = "unset"


class RetryDef(_Model):
    """Retry policy of a node.

    v1: ``max_retries`` (retries) and ``delay`` (seconds, doubled each time), with ``on_error: retry``. Version 2: the
    others. v1 code read this as a mapping, so ``retry["delay"]`` and ``retry.get("delay")`` work.
    """

    max_retries: Annotated[int, Field(ge=0)] | None = None
    """v1: how many more attempts after the first."""
    delay: Annotated[float, Field(ge=0)] | None = None
    """v1: seconds before the first retry."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Maximum number of attempts, the first included. Default 3."""
    initial_interval: Duration | None = None
    """The wait before the second attempt. Default 1 s."""
    backoff_coefficient: Annotated[float, Field(ge=1, le=100)] | None = None
    """Each wait is this many times the one before. Default 2."""
    max_interval: Duration | None = None
    """No wait is longer. Default 1 min."""
    jitter: Literal["none", "full", "equal"] | None = None
    """``full``: between 0 and the computed wait; ``equal``: between half of it and all. Default ``none``."""
    retry_on: list[str] | None = None
    """Only these kinds of error: ``timeout``, ``network``, ``http_5xx``, ``http_429``, or an error class's name."""
    non_retryable: list[str] | None = None
    """Never these kinds, whatever ``retry_on`` says."""
    when: str | None = None
    """Only if this expression over ``error`` (as ``run.error``) and ``attempt`` is true."""

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that was given, else ``default``."""
        return getattr(self, key) if key in self.model_fields_set else default


class CompensateDef(_Model):
    """A node that undoes another one, run after the run failed. ``output`` is the output it undoes."""

    type: str
    """A registered node type."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Its config; templates see everything the node saw, its output by its id, and as ``output``."""
    retry: RetryDef | None = None
    """Retry policy."""
    timeout: Duration | None = None
    """Time limit of one attempt."""
    total_timeout: Duration | None = None
    """Time limit of all attempts together."""


class CacheDef(_Model):
    """Reuse of results: a node whose rendered key was seen within ``ttl`` is not executed."""

    key: str
    """Template of the key."""
    ttl: Duration
    """Lifetime of a cached result."""


class ConcurrencyDef(_Model):
    """A limit on how many things of one key run at a time."""

    key: str
    """Template of the key."""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Maximum number at the same time."""
    on_limit: Literal["queue", "skip", "fail", "cancel_oldest", "cancel_newest"] = "queue"
    """Rule for one more."""


class UntilDef(_Model):
    """Repetition: the node is executed again, in rounds, until ``when`` holds. The output is that of the last round."""

    when: str
    """An expression about the round that succeeded: ``output``, ``round`` (from 1), and what the node sees."""
    every: Duration = 5.0
    """The wait between two rounds. It holds no worker and no slot. Default 5 s."""
    backoff: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Each wait is this many times the one before. Default 1."""
    max_every: Duration | None = None
    """No wait is longer."""
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum number of rounds; then the node fails (``until_limit``). Default 1,000 without a ``timeout``."""
    timeout: Duration | None = None
    """Time limit of all rounds and the waits between them; then the node fails (``until_timeout``)."""


#: Of a fan-out.
MAX_ITEMS = 1_000_000


class MatrixDef(_Model):
    """A fan-out over the combinations of the values of several axes; the item is a mapping of axes to values."""

    matrix: dict[str, str | list[Any]]
    """The axes: a list of values each, or a template that gives one."""
    exclude: str | list[Any] = Field(default_factory=list)
    """Combinations to leave out: mappings of some or all axes to values."""
    include: str | list[Any] = Field(default_factory=list)
    """Values to add to the combinations that they fit, or further combinations."""


class NodeDef(_Model):
    """One node of the graph."""

    id: str
    """Unique in the workflow; other nodes refer to the result by it."""
    type: str
    """A registered node type."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Config of the node type; templates in it are rendered just before the node runs."""
    depends_on: list[str] = Field(default_factory=list)
    """The nodes that must be finished before this one starts."""
    when: str | None = None
    """An expression; false means the node is skipped."""
    on_error: OnError = OnError.STOP
    """Effect of a failure on the run."""
    default_output: Any = Field(default_factory=lambda: Unset.UNSET)
    """Output in place of one that there is none of: the node was skipped or failed, or was cancelled (version 2)."""
    retry: RetryDef | None = None
    """Retry policy."""
    run_if: RunIf | None = None
    """Ends of the dependencies with which the node starts (version 2). Default ``all_succeeded``."""
    timeout: Duration | None = None
    """Time limit of one attempt (version 2)."""
    total_timeout: Duration | None = None
    """Time limit of all attempts and the waits between them (version 2)."""
    heartbeat_timeout: Duration | None = None
    """Longest time of an attempt without a progress report (version 2)."""
    for_each: Annotated[str | list[Any] | MatrixDef | dict[str, Any] | None, Field(union_mode="left_to_right")] = None
    """Run the node once per item of a list or mapping, usually a template, or of a ``matrix``."""
    item_when: str | None = None
    """An expression per item; false means that the item is skipped."""
    collect: Literal["list", "mapping"] | None = None
    """Form of the output: a ``list`` of the items' outputs (default), or a ``mapping`` of them by their keys."""
    item_key: str | None = None
    """Template of a stable, unique identity per item; default: the index, or the key of a mapping."""
    max_parallel: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Maximum number of items at the same time. Default 50."""
    tolerate_failures: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?%$")] | None = None
    """Number of items that may fail (a count, or a share such as ``5%``) before the node fails. Default 0."""
    until: UntilDef | None = None
    """Repeat the node, or each item of it, until an expression about its output holds."""
    compensate: CompensateDef | None = None
    """Undoes the node's effect when the run fails after it succeeded."""
    cache: CacheDef | None = None
    """Reuse an earlier result."""
    concurrency: ConcurrencyDef | None = None
    """Limit on nodes with the same key that run at the same time."""
    isolation: Literal["thread", "process"] | None = None
    """Place where a blocking node runs; ``process`` can be killed and limited. Default: a thread."""
    memory_limit: Size | None = None
    """With ``isolation: process``: how much memory the child may use."""
    cpu_limit: Duration | None = None
    """With ``isolation: process``: how much CPU time the child may use."""
    max_output_size: Size | None = None
    """A larger output (as JSON) fails the node. Default 16 MiB."""
    queue: QueueName | None = None
    """Execute it by any worker of this queue, on the platform."""
    on_lost: Literal["retry", "fail"] | None = None
    """Rule for a lost worker: ``retry`` executes it again (at least once), ``fail`` fails it (at
    most once). Default ``retry``."""
    description: str | None = None
    """For people."""


class SettingsDef(_Model):
    """Settings of a workflow's runs (version 2)."""

    timeout: Duration | None = None
    """Time limit of a run; then it ends as ``timed_out``."""
    queue_timeout: Duration | None = None
    """Longest time that a run may wait to be started, on the platform."""
    priority: Annotated[int, Field(ge=1, le=9)] | None = None
    """From 1 (last) to 9 (first), on the platform. Default 5."""
    concurrency: ConcurrencyDef | None = None
    """Limit on runs with the same key that run at the same time."""
    queue: QueueName | None = None
    """Run it by the workers of this queue, on the platform."""
    distribute: bool | None = None
    """Execute every node by any worker of the run's queue, not just those that name one, on the platform."""
    durability: Literal["node", "run"] | None = None
    """``node``: each result is durable before dependents start; ``run``: only the end is. Default ``node``."""


class PlacedError(ValueError):
    """An error of a model, with its place below the model."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


def _expand_inputs(value: Any) -> Any:
    """The shorthand ``order_id: string`` as the JSON Schema it stands for."""
    if not isinstance(value, Mapping):
        return value
    if value.keys() & {"$schema", "$ref", "properties", "allOf", "anyOf", "oneOf"} or value.get("type") == "object":
        return value
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, short in value.items():
        schema: dict[str, Any]
        if isinstance(short, str):
            schema = {"type": short.removesuffix("?")}
            optional = short.endswith("?")
        elif isinstance(short, Mapping):
            schema = {key: item for key, item in short.items() if key != "required"}
            optional = short.get("required") is False or "default" in short
        else:
            raise PlacedError(f"inputs.{name} is a type name such as 'string' or a JSON Schema", name)
        types = schema.get("type", "object")
        for kind in types if isinstance(types, list) else [types]:
            if not isinstance(kind, str) or kind not in _JSON_TYPES:
                expected = ", ".join(sorted(_JSON_TYPES))
                raise PlacedError(f"inputs.{name}: {show(kind)} is not one of {expected}", name)
        properties[str(name)] = schema
        if not optional:
            required.append(str(name))
    return {"type": "object", "required": required, "properties": properties}


_JSON_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})


_V1_KEYS = frozenset({"name", "description", "trigger", "nodes"})
_V1_NODE_KEYS = frozenset({"id", "type", "config", "depends_on", "when", "on_error", "retry"})


def _is_v1(version: Any) -> bool:
    # Other whole numbers are formats that do not exist (yet): those are refused, not taken for v1.
    # So is a 2 in quotes, which was not meant as a remark.
    return version == 1 or not (isinstance(version, int) or str(version).strip() in {"2", "2.0"})


def _only(keys: frozenset[str], data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key in keys}


class WorkflowDef(_Model):
    """A workflow. Without ``version: 2`` it keeps v1 semantics exactly."""

    version: Literal[1, 2] = 1
    """The version of the format."""
    name: str
    """Names the workflow; unique where it is stored."""
    description: str | None = None
    """For people."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For finding it among others (version 2)."""
    trigger: TriggerDef | None = None
    """Trigger of the workflow (v1: required, one)."""
    triggers: list[TriggerDef] = Field(default_factory=list)
    """Triggers of the workflow (version 2)."""
    inputs: Annotated[dict[str, Any] | None, BeforeValidator(_expand_inputs)] = None
    """JSON Schema of a run's input, or the shorthand ``{order_id: string}`` (version 2)."""
    outputs: dict[str, Any] = Field(default_factory=dict)
    """Templates of what a run gives back (version 2)."""
    vars: dict[str, Any] = Field(default_factory=dict)
    """Constants for templates and expressions, as ``vars.NAME`` (version 2)."""
    settings: SettingsDef = Field(default_factory=SettingsDef)
    """Settings of its runs (version 2)."""
    nodes: list[NodeDef]
    """The graph."""
    on_failure: list[NodeDef] = Field(default_factory=list)
    """Nodes that run after the graph when the run fails (version 2)."""
    finally_: list[NodeDef] = Field(default_factory=list, alias="finally")
    """Nodes that run at the end, whatever happened (version 2)."""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _ignore_what_v1_ignored(cls, data: Any) -> Any:
        """v1 looked at its own keys only; what version 2 gave a meaning since may be anything in a v1 file."""
        if not isinstance(data, Mapping) or not _is_v1(data.get("version", 1)):
            return data
        nodes = data.get("nodes")
        if isinstance(nodes, list):
            nodes = [_only(_V1_NODE_KEYS, node) if isinstance(node, Mapping) else node for node in nodes]
        return _only(_V1_KEYS, data) | ({} if nodes is None else {"nodes": nodes})

    _plan: Any = PrivateAttr(default=None)
    _document: Document | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> WorkflowDef:
        if self.version == 1 and self.trigger is None:
            raise PlacedError("trigger: Field required (for example `trigger: {type: manual}`)", "trigger")
        if self.trigger is not None and self.triggers:
            raise PlacedError("give `trigger` or `triggers`, not both", "triggers")
        seen: set[str] = set()
        for section, nodes in (("nodes", self.nodes), ("on_failure", self.on_failure), ("finally", self.finally_)):
            for i, node in enumerate(nodes):
                if node.id in seen:
                    raise PlacedError(f"Duplicate node id: {node.id}", section, i, "id")
                seen.add(node.id)
        return self

    def all_nodes(self) -> Iterator[NodeDef]:
        """The nodes of the graph, then those of ``on_failure`` and ``finally``."""
        yield from self.nodes
        yield from self.on_failure
        yield from self.finally_

    def all_triggers(self) -> list[TriggerDef]:
        """The triggers, however they were written; a manual one where none was."""
        if self.trigger is not None:
            return [self.trigger]
        return self.triggers or [TriggerDef(type="manual", id="manual")]

    def canonical(self) -> dict[str, Any]:
        """The definition as plain JSON data: what is stored, hashed and compared."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def checksum(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal for definitions that mean the same."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the workflow format, for editors and for checking before sending."""
    schema = WorkflowDef.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "PyFlow workflow"} | schema
    # Editors should complain about what the checker refuses in version 2.
    for definition in (schema, *schema.get("$defs", {}).values()):
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
            definition["patternProperties"] = {f"^{OWN_PREFIX}": {}}
    return schema

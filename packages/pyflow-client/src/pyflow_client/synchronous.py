# Generated from asynchronous.py by `make format`: edit that one.
"""The client for code without an event loop: sends what ``calls`` and ``verbs`` describe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import monotonic, sleep
from typing import Any, Literal
from uuid import UUID

import httpx2
from httpx2 import EventSource

from pyflow_client import calls, verbs
from pyflow_client.answers import understand
from pyflow_client.calls import Document, Filter, Start
from pyflow_client.connection import arguments, no_answer
from pyflow_client.errors import ConnectionFailed, ProblemError
from pyflow_client.explanations import ActionResults, Explanation, RerunPlan
from pyflow_client.following import (
    SILENCE,
    STREAM_TYPE,
    AnyFollower,
    EventT,
    Follower,
    LogFollower,
    PageT,
    Waiter,
)
from pyflow_client.models import (
    Approval,
    Batch,
    DryRun,
    Event,
    EventKind,
    EventLogPage,
    EventPage,
    Health,
    Item,
    LoggedEvent,
    LogLine,
    NodeRun,
    NodeRunDetail,
    NodeType,
    Page,
    Plugin,
    Run,
    RunSummary,
    Verdict,
    Version,
    Workflow,
)
from pyflow_client.paging import Pages
from pyflow_client.synchronous_triggers import TriggerClient
from pyflow_client.verbs import StateVerb


class Client(TriggerClient):
    """The API of one PyFlow server, for one key. ``with Client(…) as pyflow:`` closes its connections.

    Thread-safe.

    ``timeout``: seconds that one request may take. ``transport`` replaces the way to the network (and, with it, proxies
    named by the environment). Every method raises ``ProblemError`` (or a subclass) for what the server refuses,
    ``ConnectionFailed`` without an answer, and ``UnexpectedAnswer`` if the server is not PyFlow.
    """

    def workflows(self, **filters: str) -> Iterator[Workflow]:
        """All workflows in use, by name, without their definitions; filters are those of the API (``search``)."""
        yield from self._pages(Pages("api/v1/workflows", Page[Workflow], filters))

    def workflow(self, name: str) -> Workflow:
        """One workflow with its definition."""
        return self._send(calls.get_workflow(name))

    def create_workflow(self, document: Document) -> Workflow:
        """Store a new workflow: YAML or JSON text, or a mapping. ``Conflict`` if the name is taken."""
        return self._send(calls.create_workflow(document))

    def put_workflow(self, name: str, document: Document) -> Workflow:
        """Store a workflow, new or as a new version; the document must have that name."""
        return self._send(calls.put_workflow(name, document))

    def patch_workflow(self, name: str, changes: Mapping[str, Any], *, if_match: str = "*") -> Workflow:
        """Store a new version that differs in ``changes``: a JSON Merge Patch (RFC 7396) of the definition."""
        return self._send(calls.patch_workflow(name, changes, if_match))

    def archive_workflow(self, name: str) -> Workflow:
        """Take a workflow out of use: no run starts and nothing is changed until it is unarchived."""
        return self._send(calls.archive_workflow(name, archived=True))

    def unarchive_workflow(self, name: str) -> Workflow:
        """Take a workflow back into use."""
        return self._send(calls.archive_workflow(name, archived=False))

    def delete_workflow(self, name: str) -> None:
        """Delete a workflow with its versions and, if it is archived, its runs; else ``Conflict`` if it has any."""
        self._send(calls.delete_workflow(name))

    def versions(self, name: str, **filters: str) -> Iterator[Version]:
        """The versions of a workflow, the newest first, without their definitions; the filter is ``state``."""
        yield from self._pages(Pages(calls.versions_path(name), Page[Version], filters))

    def version(self, name: str, number: int) -> Version:
        """One version with its definition."""
        return self._send(calls.get_version(name, number))

    def source(self, name: str, number: int | None = None, *, format: Literal["yaml", "json"] = "yaml") -> str:
        """The document of a version, or of the current one: byte for byte as it was sent if it was in that format."""
        return self._send(calls.source(name, number, format)).root

    def create_draft(self, name: str, document: Document) -> Version:
        """Store a document as a draft of the workflow: no run starts it until it is published."""
        return self._send(calls.create_draft(name, document))

    def edit_draft(self, name: str, number: int, document: Document, *, if_match: str = "*") -> Version:
        """Replace the document of a draft; ``Conflict`` for what is none any more."""
        return self._send(calls.edit_draft(name, number, document, if_match))

    def delete_draft(self, name: str, number: int) -> None:
        """Delete a draft; ``Conflict`` for what is none any more, and for the only version of a workflow."""
        self._send(calls.delete_draft(name, number))

    def publish(self, name: str, number: int) -> Version:
        """Freeze a draft; runs start it from now on."""
        return self._send(calls.change_version(name, number, "publish"))

    def archive_version(self, name: str, number: int) -> Version:
        """Let no run start a version any more; runs start the one that was published before it."""
        return self._send(calls.change_version(name, number, "archive"))

    def rollback(self, name: str, number: int) -> Version:
        """Publish a copy of an earlier version as the newest one."""
        return self._send(calls.change_version(name, number, "rollback"))

    def diff(self, name: str, before: int, after: int) -> dict[str, Any]:
        """Compare two versions: ``nodes``, ``edges``, ``triggers``, …, and the ``impact`` of the change."""
        return self._send(calls.diff(name, before, after)).root

    def diff_text(self, name: str, before: int, after: int) -> str:
        """The lines in which the documents of two versions differ, as ``diff -u`` shows them."""
        return self._send(calls.diff_text(name, before, after)).root

    def diff_patch(self, name: str, before: int, after: int) -> list[dict[str, Any]]:
        """The JSON Patch (RFC 6902) that makes the definition of one version that of the other."""
        return self._send(calls.diff_patch(name, before, after)).root

    def validate(self, document: Document) -> Verdict:
        """Validate a document: errors, warnings, and the secrets it uses; nothing is stored."""
        return self._send(calls.validate(document))

    def dry_run(self, name: str, input: Mapping[str, Any] | None = None, *, version: int | None = None) -> DryRun:
        """Plan a run; nothing is run."""
        return self._send(calls.dry_run(name, input, version))

    def dry_run_document(self, document: Document, input: Mapping[str, Any] | None = None) -> DryRun:
        """Plan a run of a document; nothing is stored or run."""
        return self._send(calls.dry_run_document(document, input))

    def workflow_schema(self) -> dict[str, Any]:
        """The JSON Schema of workflow documents."""
        return self._send(calls.workflow_schema()).root

    def graph(self, name: str, *, version: int | None = None) -> dict[str, Any]:
        """The nodes, edges and levels of a workflow."""
        return self._send(calls.graph(name, version)).root

    def drawing(self, name: str, *, format: Literal["svg", "mermaid"] = "svg", version: int | None = None) -> str:
        """The graph of a workflow, drawn."""
        return self._send(calls.drawing(name, format, version)).root

    def node_types(self) -> list[NodeType]:
        """The node types that the server has, by name."""
        return self._send(calls.node_types()).results

    def node_type(self, type: str) -> NodeType:
        """One node type."""
        return self._send(calls.node_type(type))

    def plugins(self) -> list[Plugin]:
        """The plugins of the server, by name."""
        return self._send(calls.plugins()).results

    def start_run(
        self,
        workflow: str,
        input: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        key: str | None = None,
        wait: int | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run, of the version published last unless another is named; the options are those of ``Start``.

        With ``wait`` the server answers with the finished run if it ends within so many seconds (60 at most). With a
        ``key`` or an ``idempotency_key`` (good for 24 hours) it is retried; without one it is not, because only the
        server knows whether the run has begun.
        """
        start = Start(input=input, version=version, labels=labels, priority=priority, key=key)
        return self._send(calls.start_run(workflow, start, wait=wait, idempotency_key=idempotency_key))

    def start_runs(self, workflow: str, starts: Iterable[Start], *, idempotency_key: str | None = None) -> Batch:
        """Start up to 1,000 runs at once; one that is refused keeps no other from being started."""
        return self._send(calls.start_runs(workflow, starts, idempotency_key=idempotency_key))

    def runs(self, **filters: Filter) -> Iterator[RunSummary]:
        """All runs, the newest first, without input and outputs; the filters are those of the API.

        Among them are ``workflow``, ``state``, ``label``, ``created_after`` (a ``datetime``) and ``ordering``; a
        sequence is any of its values, of labels all.
        """
        yield from self._pages(Pages("api/v1/runs", Page[RunSummary], filters))

    def run(self, run_id: str | UUID, *, wait: int | None = None) -> Run:
        """One run with its nodes and its first 1,000 events; once it has ended, or after ``wait`` seconds (60)."""
        return self._send(calls.get_run(run_id, wait))

    def nodes(self, run_id: str | UUID, **filters: Filter) -> Iterator[NodeRun]:
        """The nodes of a run that came to anything, in that order; the filter is ``state``."""
        yield from self._pages(Pages(f"{calls.run_path(run_id)}/nodes", Page[NodeRun], filters))

    def node(self, run_id: str | UUID, node_id: str) -> NodeRunDetail:
        """One node of a run with its attempts."""
        return self._send(calls.get_node(run_id, node_id))

    def items(self, run_id: str | UUID, node_id: str, **filters: Filter) -> Iterator[Item]:
        """The items of a fan-out that came to anything, in their order; the filter is ``state``."""
        yield from self._pages(Pages(f"{calls.node_path(run_id, node_id)}/items", Page[Item], filters))

    def input_of(self, run_id: str | UUID) -> dict[str, Any]:
        """Return the input of a run, however large it is."""
        found: dict[str, Any] = self._send(calls.input_of(run_id)).root
        return found

    def outputs_of(self, run_id: str | UUID) -> Any:
        """Return the outputs of a run, however large they are; ``None`` if it has no outputs (yet)."""
        return self._send(calls.outputs_of(run_id)).root

    def output_of(self, run_id: str | UUID, node_id: str, *, item: int | None = None) -> Any:
        """Return the output of a node, or of one item of its fan-out, however large it is; ``None`` if none (yet)."""
        return self._send(calls.output_of(run_id, node_id, item)).root

    def logs(self, run_id: str | UUID, **filters: Filter) -> Iterator[LogLine]:
        """List the log lines of a run, in order; filters: ``node``, ``level`` (minimum), ``after`` (a ``seq``)."""
        yield from self._pages(Pages(f"{calls.run_path(run_id)}/logs", Page[LogLine], filters))

    def run_graph(self, run_id: str | UUID) -> dict[str, Any]:
        """The graph of a run: ``nodes`` with their states, and ``edges``."""
        return self._send(calls.run_graph(run_id)).root

    def run_drawing(self, run_id: str | UUID, *, format: Literal["svg", "mermaid"] = "svg") -> str:
        """The graph of a run as an image (SVG) or as text that Mermaid draws, coloured by the states of its nodes."""
        return self._send(calls.run_drawing(run_id, format)).root

    def signal(self, run_id: str | UUID, name: str, payload: Any = None, *, id: str | None = None) -> bool:
        """Send ``payload`` (JSON) to the node that waits for ``name``, or will; ``Conflict`` if the run has ended.

        With an ``id`` it is retried, and ``False`` says that a signal of that ``id`` was delivered before.
        Without one it is not retried: only the server knows whether it has arrived.
        """
        return self._send(verbs.signal(run_id, name, payload, id)).delivered

    def approvals(self, **filters: Filter) -> Iterator[Approval]:
        """The approvals that wait for a decision, the oldest first; ``signal`` decides.

        Filters: ``assignee`` (``me``: those that the caller may decide, or a name), ``workflow`` and ``run``.
        """
        yield from self._pages(Pages("api/v1/approvals", Page[Approval], filters))

    def cancel(self, run_id: str | UUID) -> Run:
        """Ask a run to stop, and return without waiting for its end. ``Conflict`` if it has ended already."""
        return self._send(verbs.state_verb(run_id, "cancel"))

    def terminate(self, run_id: str | UUID) -> Run:
        """End a run at once, without clean-up. ``Conflict`` if it has ended already."""
        return self._send(verbs.state_verb(run_id, "terminate"))

    def pause(self, run_id: str | UUID) -> Run:
        """Let no more nodes of a run start. ``Conflict`` if it has ended, or was asked to stop."""
        return self._send(verbs.state_verb(run_id, "pause"))

    def resume(self, run_id: str | UUID) -> Run:
        """Let a paused run go on. ``Conflict`` if it is not paused."""
        return self._send(verbs.state_verb(run_id, "resume"))

    def retry(self, run_id: str | UUID) -> Run:
        """Take a run up again that did not succeed: what has completed stays. ``Conflict`` if that is not possible."""
        return self._send(verbs.state_verb(run_id, "retry"))

    def rerun(
        self,
        run_id: str | UUID,
        *,
        start_from: str | None = None,
        version: str | int = "original",
        input: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a new run that repeats another one, on its version, the ``latest`` one or the one of a number.

        ``start_from``: that node and what comes after it is run, other results are reused. Retried with an
        ``idempotency_key`` only.
        """
        return self._send(verbs.rerun(run_id, start_from, version, input, idempotency_key))

    def plan_rerun(
        self, run_id: str | UUID, *, start_from: str | None = None, version: str | int = "original"
    ) -> RerunPlan:
        """Plan what ``rerun`` would do with each node; nothing is started."""
        return self._send(verbs.plan_rerun(run_id, start_from, version))

    def explain(self, run_id: str | UUID) -> Explanation:
        """Explain the state of a run: what each of its nodes waits for, and which actions are possible now."""
        return self._send(verbs.explain(run_id))

    def act_on_runs(
        self,
        action: StateVerb,
        runs: Iterable[str | UUID] | None = None,
        *,
        limit: int | None = None,
        after: str | UUID | None = None,
        idempotency_key: str | None = None,
        **filters: Filter,
    ) -> ActionResults:
        """Ask the same of up to 100 runs: of those named, or of those that match filters (as those of ``runs``).

        A run that refuses has a ``problem`` in its place. With filters, ``next`` is sent as ``after`` to go on. Retried
        with an ``idempotency_key`` only.
        """
        return self._send(verbs.act_on_runs(action, runs, filters, limit, after, idempotency_key))

    def events(self, run_id: str | UUID, *, after: int = 0, limit: int = 200) -> EventPage:
        """Up to ``limit`` (1,000 at most) events after the one numbered ``after``, and the run's state."""
        return self._send(calls.events(run_id, after, limit))

    def event_log(self, after: str | None = None, *, limit: int = 200, **filters: Filter) -> EventLogPage:
        """Return up to ``limit`` (1,000 at most) events of the tenant after a cursor; without one, from the oldest.

        ``after="now"`` is the end of the log. The filters are those of the API: ``type`` (``run.*`` for all that begin
        so), ``workflow``, ``run``, ``label``, ``since`` and ``until``. Raises ``EventsRemoved`` if events after the
        cursor were removed.
        """
        return self._send(calls.event_log(after, limit, filters))

    def event_types(self) -> list[EventKind]:
        """Return the types of events, each with its JSON Schema."""
        return self._send(calls.event_types()).results

    def follow(self, run_id: str | UUID, *, after: int = 0) -> Iterator[Event]:
        """The events of a run as they happen, until it ended: each once, also where the server restarts meanwhile.

        They are streamed, and polled from a server that cannot stream. A server that is away is asked again for as long
        as ``following`` of the client says (10 minutes).
        """
        yield from self._followed(Follower(run_id, after, self._following, monotonic))

    def follow_events(self, after: str | None = None, **filters: Filter) -> Iterator[LoggedEvent]:
        """The events of the tenant as they happen, without an end: each once, also where the server restarts meanwhile.

        They begin after a cursor: that of an event, ``"now"``, or without one the oldest event that is kept. The
        filters are those of ``event_log``. They are streamed, and polled from a server that cannot stream. Raises
        ``EventsRemoved`` if events after the cursor were removed, and as ``follow`` does.
        """
        follower = LogFollower(after, filters, self._following, monotonic)
        if follower.begins_now:
            follower.begin(self._send(follower.call(), self._following))
        yield from self._followed(follower)

    def _followed(self, follower: AnyFollower[PageT, EventT]) -> Iterator[EventT]:
        while not follower.done:
            if follower.streams:
                for event in self._streamed(follower):
                    yield event
            else:
                for event in follower.take(self._send(follower.call(), self._following)):
                    yield event
            if follower.pause and not follower.done:
                sleep(follower.pause)

    def _streamed(self, follower: AnyFollower[PageT, EventT]) -> Iterator[EventT]:
        """The events of one connection, until the server ends it or it breaks."""
        call = follower.stream_call()
        try:
            with self._http.stream(**arguments(call, SILENCE)) as response:
                if response.headers.get("Content-Type", "").startswith(STREAM_TYPE):
                    for frame in EventSource(response):
                        if (event := follower.take_frame(frame.event, frame.data, frame.id)) is not None:
                            yield event
                    return
                response.read()
                for event in follower.take(understand(call, response)):
                    yield event
        except ProblemError as error:
            follower.lost(error)
        except httpx2.RequestError as error:
            follower.lost(ConnectionFailed(no_answer(error)))

    def wait(self, run_id: str | UUID, timeout: float | None = None) -> Run:
        """The run once it ended; ``RunNotFinished`` after ``timeout`` seconds.

        A server that is away is asked again for as long as ``following`` of the client says (10 minutes), and no longer
        than ``timeout``.
        """
        waiter = Waiter(run_id, timeout, monotonic)
        while not waiter.done:
            waiter.take(self._send(waiter.call(), self._following.within(waiter.left)))
            if waiter.pause:
                sleep(waiter.pause)
        return self.run(run_id)

    def health(self) -> Health:
        """Return the present health of the server, asked once; one that is not ready is an answer, not an error."""
        return self._send(calls.health())

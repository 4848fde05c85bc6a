"""Explains the state of a run and of its nodes: a pure function of what is recorded about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyflow.core.result import headline, told_items
from pyflow.core.states import TERMINAL_NODE_STATES, TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import WaitKind
from pyflow.execution.plan import COMPENSATE, MAIN, PLAN_SECTIONS, Plan
from runs.explain.reasons import (
    ChildRun,
    Consequence,
    Explanation,
    Failure,
    ItemReason,
    Lease,
    NodeReason,
    QueuePlace,
    Reason,
    TaskPlace,
    VerbReason,
)
from runs.models import NodeItem, NodeRun, NodeTask, Run
from runs.queue.presence import Presence
from runs.queue.slots import SlotPlace

#: Bounds: nodes, consequences of a failure, and names in one sentence.
MOST_NODES, MOST_CONSEQUENCES, MOST_NAMES = 200, 100, 20
#: Further runs in front are not counted.
MOST_AHEAD = 10_000
VERBS = ("cancel", "terminate", "pause", "resume", "retry", "rerun", "signal")
_FAILED = frozenset({NodeState.FAILED.value, NodeState.TIMED_OUT.value})
_ENDED = {NodeState.SKIPPED: "been skipped", NodeState.CANCELLED: "been cancelled", NodeState.TIMED_OUT: "timed out"}
#: Order of the nodes: active ones first, then those that have not begun, then ended ones.
_ORDER = {NodeState.RUNNING: 0, NodeState.RETRYING: 0, NodeState.WAITING: 0, NodeState.PENDING: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about a run at one moment; its nodes without outputs.

    ``plan`` is ``None`` if the version cannot run here (``broken`` says why). ``ahead``: how many queued runs of the
    tenant come first. ``running`` of its runs are executed, ``limit`` at most (``None``: any number). ``items``
    counts those of fan-outs by state, ``waiting_items`` are the first that wait; ``children`` are runs, by their ids,
    the last started first. ``presence`` says whether the queues that the run or its tasks wait in have workers.
    """

    run: Run
    now: datetime
    plan: Plan | None
    broken: str
    nodes: Mapping[str, NodeRun]
    items: Mapping[str, dict[str, int]] = field(default_factory=dict)
    waiting_items: Mapping[str, Sequence[NodeItem]] = field(default_factory=dict)
    tasks: Sequence[NodeTask] = ()
    children: Mapping[str, Run] = field(default_factory=dict)
    places: Sequence[SlotPlace] = ()
    signals: Sequence[str] = ()
    ahead: int = 0
    running: int = 0
    limit: int | None = None
    presence: Mapping[str, Presence] = field(default_factory=dict)


def explain(facts: Facts) -> Explanation:
    """Explain the state of the run."""
    run = facts.run
    shown, more = _states_of_tickets(facts)
    is_running = run.state == RunState.RUNNING
    return Explanation(
        run=run.pk,
        workflow=run.workflow.name,
        version=run.version.number,
        state=run.state,
        reasons=list(_reasons(facts)),
        queue=_queue(facts) if run.state == RunState.QUEUED else None,
        lease=_lease(facts) if is_running else None,
        slots=list(facts.places),
        signals=list(facts.signals),
        states=_states(facts),
        nodes=[_node(facts, node_id) for node_id in shown],
        more_nodes=more,
        failure=_failure(facts),
        verbs=[VerbReason(verb, why is None, why) for verb, why in ((verb, _refusal(facts, verb)) for verb in VERBS)],
    )


def _states_of_tickets(facts: Facts) -> tuple[list[str], int]:
    """Return the nodes that are explained one by one, and the number of others that have not succeeded."""
    planned = [] if facts.plan is None else facts.plan.ids(facts.plan.sections[MAIN])
    names = [
        name for name in dict.fromkeys([*planned, *facts.nodes]) if _state(facts.nodes, name) != NodeState.SUCCEEDED
    ]
    names.sort(key=lambda name: _ORDER.get(_state(facts.nodes, name), 2))
    return names[:MOST_NODES], len(names[MOST_NODES:])


def may_have_children(plan: Plan | None, nodes: Mapping[str, NodeRun]) -> bool:
    """Return whether the run can have child runs."""
    starts_some = plan is None or any(node.child for node in plan.nodes)
    return starts_some or first_failed(plan, nodes) is not None or bool(awaited_children(nodes))


def awaited_children(nodes: Mapping[str, NodeRun]) -> set[str]:
    """The ids of the child runs that nodes wait for, as far as an explanation names them."""
    found: set[str] = set()
    for row in nodes.values():
        if row.state == NodeState.WAITING and _details(row).get("kind") == WaitKind.CHILD:
            found.update(_details(row)["runs"][:MOST_NAMES])
    return found


def first_failed(plan: Plan | None, nodes: Mapping[str, NodeRun]) -> NodeRun | None:
    """The node whose failure came first, of those that the run did not tolerate."""
    failed = [row for row in nodes.values() if row.state in _FAILED and not row.tolerated]
    main = [row for row in failed if plan is None or _section(plan, row.node_id) == MAIN]
    return min(main or failed, key=lambda row: (row.finished_at is None, row.finished_at), default=None)


def _reasons(facts: Facts) -> Iterable[Reason]:
    run, state = facts.run, RunState(facts.run.state)
    if facts.broken and state not in TERMINAL_RUN_STATES:
        yield Reason("not_runnable", f"Its version cannot run here: {facts.broken}")
    if state in TERMINAL_RUN_STATES:
        error = run.error or {}
        why = f": {_headline(error)}" if error else ""
        yield Reason("ended", f"It has ended, as {state}{why}.")
        yield from _reasons_of_items(facts)
        return
    if run.cancel_requested_at is not None:
        yield Reason("cancelling", f"Cancelling since {_time(run.cancel_requested_at)}: clean-up is in progress.")
    elif state is RunState.PAUSED:
        since = "" if run.pause_requested_at is None else f" since {_time(run.pause_requested_at)}"
        yield Reason("paused", f"Paused{since}: no node starts until the run is resumed.")
    elif run.pause_requested_at is not None:
        yield Reason("pausing", "Pausing: running nodes finish first; no other node starts.")
    if state is RunState.QUEUED:
        yield from _reasons_of_queued(facts)
    elif state is RunState.RUNNING:
        yield _reason_of_running(facts)
    elif state is RunState.WAITING:
        yield _reason_of_waiting(facts)
    yield from _reasons_of_queues(facts)


def _reasons_of_items(facts: Facts) -> Iterable[Reason]:
    """Name the fan-outs that succeeded although items of them failed or were skipped."""
    succeeded = [name for name, row in facts.nodes.items() if row.state == NodeState.SUCCEEDED]
    told = [(name, told_items(Counter(facts.items.get(name, {})).elements())) for name in succeeded]
    for name, counts in [(name, counts) for name, counts in told if counts][:MOST_NAMES]:
        yield Reason("items", f"Node {name!r} has succeeded: {counts}.")


def _reasons_of_queued(facts: Facts) -> Iterable[Reason]:
    run, limit = facts.run, facts.limit
    name = _queue_name(run.queue)
    first = f"{facts.ahead:,}{' or more' if facts.ahead >= MOST_AHEAD else ''} of the tenant's runs are ahead of it"
    next_one = "it is the next run of its tenant" if facts.ahead == 0 else first
    yield Reason("queue", f"Queued in {name} with priority {run.priority}, waiting for a worker: {next_one}.")
    if limit is not None and facts.running >= limit:
        detail = (
            f"{facts.running:,} of the tenant's runs are being executed; the quota `concurrent_runs` allows {limit:,}."
        )
        yield Reason("quota", detail)
    if run.queue_deadline is not None and run.started_at is None:
        yield Reason("queue_timeout", f"The run times out if it has not started by {_time(run.queue_deadline)}.")


def _reasons_of_queues(facts: Facts) -> Iterable[Reason]:
    """Say which queues that something waits in have no worker, as far as that is known."""
    for queue, presence in facts.presence.items():
        name = _queue_name(queue)
        if presence.served is None:
            detail = f"Unknown whether a worker serves {name}: {presence.detail}."
            yield Reason("presence_unknown", detail)
        elif not presence.served:
            detail = f"No worker serves {name}: {presence.detail}. Its runs and tasks start when a worker serves it."
            yield Reason("unserved", detail)


def _queue_name(queue: str) -> str:
    return f"the queue {queue!r}" if queue else "the default queue"


def _reason_of_running(facts: Facts) -> Reason:
    lease = _lease(facts)
    if lease.expired:
        until = "" if lease.until is None else f" at {_time(lease.until)}"
        return Reason(
            "lost", f"The lease of its worker ({lease.owner}) expired{until}: another worker takes over the run."
        )
    return Reason("running", f"Executed by {lease.owner} (epoch {lease.epoch}).")


def _reason_of_waiting(facts: Facts) -> Reason:
    run = facts.run
    own = [place for place in facts.places if not place.node_id and place.ahead is not None]
    if own:
        return Reason("slot", _slot_sentence(own[0]))
    waiting = [row.node_id for row in facts.nodes.values() if row.state in (NodeState.WAITING, NodeState.RETRYING)]
    until = "" if run.wake_at is None else f" It continues at {_time(run.wake_at)} at the latest."
    return Reason("waiting", f"All active nodes wait ({_names(waiting)}).{until}")


def _queue(facts: Facts) -> QueuePlace:
    run = facts.run
    deadline = run.queue_deadline if run.started_at is None else None
    return QueuePlace(run.queue, run.priority, facts.ahead, facts.running, facts.limit, deadline)


def _lease(facts: Facts) -> Lease:
    run = facts.run
    expired = run.lease_until is None or run.lease_until < facts.now
    return Lease(run.owner, run.epoch, run.lease_until, expired, run.claims, run.losses)


def _states(facts: Facts) -> dict[str, int]:
    counts = Counter(row.state for row in facts.nodes.values())
    if facts.plan is not None:
        main = facts.plan.ids(facts.plan.sections[MAIN])
        counts[NodeState.PENDING.value] += sum(node_id not in facts.nodes for node_id in main)
    return {state.value: counts[state.value] for state in NodeState if counts[state.value]}


def _node(facts: Facts, node_id: str) -> NodeReason:
    row, state = facts.nodes.get(node_id), _state(facts.nodes, node_id)
    code, detail, more = _why(facts, node_id, row, state)
    return NodeReason(
        id=node_id,
        state=state.value,
        code=code,
        detail=detail,
        attempts=0 if row is None else row.attempts,
        error=None if row is None else row.error,
        items=dict(facts.items.get(node_id, {})),
        waiting_items=[_item(item) for item in facts.waiting_items.get(node_id, ())],
        **{"children": _started_by(facts, node_id), **more},
    )


Cause = tuple[str, str, dict[str, Any]]


def _why(facts: Facts, node_id: str, row: NodeRun | None, state: NodeState) -> Cause:
    if state in TERMINAL_NODE_STATES:
        return _why_ended(row, state)
    if facts.run.state in TERMINAL_RUN_STATES:
        return "not_reached", "Not reached before the run ended.", {}
    places = [place for place in facts.places if place.node_id == node_id and place.ahead is not None]
    if places:
        return "slot", _slot_sentence(places[0]), {}
    if row is not None and state is NodeState.WAITING:
        return _why_waiting(facts, row)
    if row is not None and state is NodeState.RETRYING:
        when = "" if row.wake_at is None else f" at {_time(row.wake_at)}"
        return (
            "retry",
            f"Attempt {row.attempts} failed: the next attempt starts{when or ' soon'}.",
            {"until": row.wake_at},
        )
    if row is not None and state is NodeState.RUNNING:
        return _why_running(facts, row)
    return _why_pending(facts, node_id)


def _why_ended(row: NodeRun | None, state: NodeState) -> Cause:
    if row is not None and row.error is not None:
        return state.value, _headline(row.error), {}
    reason = f": {row.reason}" if row is not None and row.reason else ""
    return state.value, f"It has {_ENDED.get(state, 'failed')}{reason}.", {}


def _why_waiting(facts: Facts, row: NodeRun) -> Cause:
    until = row.wake_at
    or_until = "" if until is None else f", or until {_time(until)}"
    if _details(row).get("kind") == WaitKind.CHILD:
        awaited = [_child(facts.children[name]) for name in _details(row)["runs"] if name in facts.children]
        names = ", ".join(f"{child.run_id} of {child.workflow!r} ({child.state})" for child in awaited[:MOST_NAMES])
        children = awaited + [child for child in _started_by(facts, row.node_id) if child not in awaited]
        return "child_run", f"Waits for a child run{or_until}: {names}.", {"children": children, "until": until}
    if _details(row).get("kind") == WaitKind.PAUSED:
        return "paused", "The run was paused before all items had started: the others start when it is resumed.", {}
    if _details(row).get("kind") == WaitKind.ITEMS:
        counts = ", ".join(f"{count:,} {state}" for state, count in facts.items.get(row.node_id, {}).items())
        return "items", f"Waits for its items ({counts}){or_until}.", {"until": until}
    return _why_timed(row)


def _item(item: NodeItem) -> ItemReason:
    if item.state == NodeState.RETRYING:
        when = "soon" if item.wake_at is None else f"at {_time(item.wake_at)}"
        detail = f"Attempt {item.attempts} failed: the next one starts {when}."
        return ItemReason(item.index, item.key, "retry", detail, item.wake_at, None)
    code, detail, _ = _why_timed(item)
    return ItemReason(item.index, item.key, code, detail, item.wake_at, (item.wait or {}).get("signal"))


def _why_timed(row: NodeRun | NodeItem) -> Cause:
    """Say for which time or signal a node, or an item, waits."""
    wait, until = row.wait or {}, row.wake_at
    or_until = "" if until is None else f", or until {_time(until)}"
    if _details(row).get("kind") == WaitKind.ROUND:
        number = _details(row)["round"]
        return "round", f"Waits for round {number:,}{'' if until is None else f' at {_time(until)}'}.", {"until": until}
    signal = wait.get("signal")
    if signal is None:
        return "timer", f"Waits {'for a moment' if until is None else f'until {_time(until)}'}.", {"until": until}
    if _details(row).get("kind") == WaitKind.DECISION:
        who = ", ".join(map(str, _details(row).get("assignees") or ()))
        asked = f" of {who}" if who else ""
        return "approval", f"Waits for the decision{asked} (signal {signal!r}){or_until}.", _signalled(signal, until)
    return "signal", f"Waits for the signal {signal!r}{or_until}.", _signalled(signal, until)


def _signalled(signal: str, until: datetime | None) -> dict[str, Any]:
    return {"signal": signal, "until": until}


def _why_running(facts: Facts, row: NodeRun) -> Cause:
    run = facts.run
    if run.state != RunState.RUNNING:
        return "interrupted", "Its worker released the run: the node starts again when the run continues.", {}
    tasks = [
        TaskPlace(task.queue, len(task.places), task.owner, task.epoch, task.lease_until)
        for task in facts.tasks
        if task.node_id == row.node_id
    ]
    progress = _progress_sentence(row.progress)
    if tasks:
        claimed = sum(bool(task.owner) for task in tasks)
        queues = _names(sorted({task.queue or "default" for task in tasks}))
        detail = f"Executed as tasks of the queue {queues}: workers have claimed {claimed} of {len(tasks)}."
        return "task", detail + progress, {"tasks": tasks, "progress": row.progress}
    if _lease(facts).expired:
        return "lost", "The lease of its worker expired: the worker that takes over the run starts the node again.", {}
    since = "" if row.started_at is None else f" Started at {_time(row.started_at)}."
    return "running", f"Attempt {row.attempts} is running.{since}{progress}", {"progress": row.progress}


def _progress_sentence(progress: dict[str, Any] | None) -> str:
    if progress is None:
        return ""
    item = "" if progress["item"] is None else f"item {progress['item']['key']!r} "
    said = f": {progress['message']}" if progress["message"] else "."
    return f" At {progress['at']} {item or 'it '}reported {progress['fraction']:.0%}{said}"


def _why_pending(facts: Facts, node_id: str) -> Cause:
    plan, index = facts.plan, None if facts.plan is None else facts.plan.by_id.get(node_id)
    if plan is None or index is None:
        return "pending", "Not started yet.", {}
    missing = [
        name
        for name in plan.ids(plan.graph.dependencies[index])
        if _state(facts.nodes, name) not in TERMINAL_NODE_STATES
    ]
    if missing:
        return "dependencies", f"Waits for {_names(missing)}.", {"waits_for": missing[:MOST_NAMES]}
    section = plan.nodes[index].section
    if section != MAIN:
        return "section", f"Part of `{PLAN_SECTIONS[section]}`, which runs after `nodes`.", {}
    return (
        "ready",
        f"Ready: all dependencies have ended. It starts when the run, now {facts.run.state}, continues.",
        {},
    )


def _failure(facts: Facts) -> Failure | None:
    first, run = first_failed(facts.plan, facts.nodes), facts.run
    if first is None:
        return None if run.error is None else Failure(run.error.get("node_id"), run.finished_at, run.error, None, [], 0)
    last = next(iter(_started_by(facts, first.node_id)), None)
    chain = _consequences(facts, first.node_id)
    return Failure(
        first.node_id,
        first.finished_at,
        first.error,
        last,
        chain[:MOST_CONSEQUENCES],
        len(chain[MOST_CONSEQUENCES:]),
    )


def _consequences(facts: Facts, cause: str) -> list[Consequence]:
    """Downstream of the cause, what did not succeed, in the order of the graph."""
    plan = facts.plan
    if plan is None or cause not in plan.by_id:
        return []
    reached, chain = {cause}, []
    below = plan.graph.downstream(plan.by_id[cause])
    for index in plan.graph.order():
        node_id = plan.nodes[index].id
        state = _state(facts.nodes, node_id)
        because = [name for name in plan.ids(plan.graph.dependencies[index]) if name in reached]
        if index in below and because and state in TERMINAL_NODE_STATES - {NodeState.SUCCEEDED}:
            reached.add(node_id)
            chain.append(Consequence(node_id, state.value, because[:MOST_NAMES]))
    return chain


def _refusal(facts: Facts, verb: str) -> str | None:
    """Say why the verb is not possible now; return ``None`` if it is."""
    run, state = facts.run, RunState(facts.run.state)
    if verb == "rerun":
        archived = run.workflow.archived_at is not None
        return "The workflow is archived: unarchive it first." if archived else None
    if verb == "retry":
        return _refusal_of_retry(facts, state)
    if state in TERMINAL_RUN_STATES:
        return f"The run has ended, as {state}."
    if verb in {"cancel", "pause"} and run.cancel_requested_at is not None:
        return "The run is being cancelled."
    if verb == "pause" and run.pause_requested_at is not None:
        return "The run is paused or pausing."
    if verb == "resume" and run.pause_requested_at is None:
        return "The run is not paused."
    return None


def _refusal_of_retry(facts: Facts, state: RunState) -> str | None:
    if state not in TERMINAL_RUN_STATES:
        return f"The run has not ended: it is {state}."
    if state is RunState.SUCCEEDED:
        return "The run has succeeded."
    undone = [name for name in facts.nodes if facts.plan is not None and _section(facts.plan, name) == COMPENSATE]
    return f"The run was compensated ({undone[0]}) and cannot continue." if undone else None


def _slot_sentence(place: SlotPlace) -> str:
    holders = _names([f"{holder.run_id}{f'/{holder.node_id}' if holder.node_id else ''}" for holder in place.holders])
    first = f"{place.ahead:,} ahead of it; " if place.ahead else ""
    return f"Waits for one of {place.limit:,} slots of {place.key!r}: {first}{place.held:,} in use, by {holders}."


def _child(run: Run) -> ChildRun:
    place = run.called_by or {}
    return ChildRun(run.pk, run.workflow.name, run.state, run.error, place.get("item"), place.get("attempt", 1))


def _started_by(facts: Facts, node_id: str) -> list[ChildRun]:
    """The child runs of a node, the last started first."""
    runs = facts.children.values()
    return [_child(run) for run in runs if (run.called_by or {}).get("node_id") == node_id][:MOST_NAMES]


def _details(row: NodeRun | NodeItem) -> dict[str, Any]:
    return (row.wait or {}).get("details") or {}


def _state(nodes: Mapping[str, NodeRun], node_id: str) -> NodeState:
    return NodeState(nodes[node_id].state) if node_id in nodes else NodeState.PENDING


def _section(plan: Plan, node_id: str) -> int | None:
    index = plan.by_id.get(node_id)
    return None if index is None else plan.nodes[index].section


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "nobody") + more


def _time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")


def _headline(error: Mapping[str, Any]) -> str:
    return headline(error["code"], error["type"], error["message"])

"""What is true of every committed state of the tables, whichever test has made it: named questions to the database.

`violations` asks all of them; `tests/conftest.py` does so after every test that has made runs. A test that breaks the
state by hand names what it breaks: `@pytest.mark.breaks_invariant("leases_are_of_running_runs", reason="…")`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from hashlib import sha256
from itertools import groupby
from operator import or_
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from pyflow.core.events import NODE_ENDS, RUN_ENDS
from pyflow.core.states import TERMINAL_NODE_STATES, TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import Suspension, awaited
from runs.models import EventRecord, NodeItem, NodeRun, NodeTask, Run, RunLog, RunSignal, Slot
from runs.storage.counters import counted
from tenants import audit
from tenants.models import AuditEntry, AuditHead, Tenant, UsageCounter
from tenants.plans import Quota, effective

Question = Callable[[], Iterator[str]]
INVARIANTS: dict[str, Question] = {}
RUN_END_TYPES = sorted({str(type) for type in RUN_ENDS.values()})
NODE_END_TYPES = sorted({str(type) for type in NODE_ENDS.values()})
#: So many violations of one invariant are shown.
SHOWN = 5
#: The mark of tests that write a state of runs into their rows, to see what is said of it: nothing has led to it.
written_by_hand = pytest.mark.breaks_invariant(
    "the_last_event_is_the_end",
    "rows_of_nodes_say_what_events_say",
    "log_lines_are_numbered_without_a_gap",
    "ended_runs_say_when",
    "leases_are_of_running_runs",
    "ended_runs_have_no_open_nodes",
    "states_of_nodes_fit_their_fields",
    "who_waits_has_a_reason",
    reason="the state of a run is written by hand, without what leads to it",
)


def invariant(question: Question) -> Question:
    """Ask this, by the name of its function, whenever invariants are asked."""
    INVARIANTS[question.__name__] = question
    return question


def each_row_violates(question: Question) -> Question:
    """Ask an invariant only where one of its statements finds a row: each row is a violation, no row is none.

    Nothing of a test is in its statements, so those of the first time are the same every time.
    """
    _RECORDED.add(question.__name__)
    return question


def asked_where(*queries: Callable[[], QuerySet[Any]]) -> Callable[[Question], Question]:
    """Ask an invariant only where one of the queries finds a row: without one, nothing can violate it."""

    def mark(question: Question) -> Question:
        _QUERIES[question.__name__] = queries
        return question

    return mark


Statement = tuple[str, tuple[Any, ...]]
_RECORDED: set[str] = set()
_QUERIES: dict[str, tuple[Callable[[], QuerySet[Any]], ...]] = {}
_STATEMENTS: dict[str, list[Statement]] = {}
"""By invariant: what is asked for a row in the one statement that stands before all of them.

To compile 40 statements for each test took more time than most tests; they are compiled once in a process.
"""
OF_RUNS = (NodeRun, NodeItem, NodeTask, Slot, RunSignal, EventRecord, RunLog)


def _suspects() -> set[str]:
    """The names of what has a row that might violate it, by one statement."""
    if not _STATEMENTS:
        for name, queries in _QUERIES.items():
            _STATEMENTS[name] = [query().order_by().query.sql_with_params() for query in queries]
    found = (" OR ".join(f"EXISTS({sql})" for sql, _ in statements) for statements in _STATEMENTS.values())
    params = [param for statements in _STATEMENTS.values() for _, given in statements for param in given]
    with connection.cursor() as cursor:
        _execute_planned(cursor, f"SELECT {', '.join(found)}", params)
        return {name for name, is_found in zip(_STATEMENTS, cursor.fetchone(), strict=True) if is_found}


def _execute_planned(cursor: CursorWrapper, sql: str, params: Sequence[Any]) -> None:
    """Execute a statement that PostgreSQL plans once for a connection: to plan this one takes longer than its rows."""
    if connection.vendor != "postgresql":
        cursor.execute(sql, params)
        return
    text = cursor.cursor.mogrify(sql, params)
    name = f"invariants_{sha256(text.encode()).hexdigest()[:16]}"
    cursor.execute("SELECT 1 FROM pg_prepared_statements WHERE name = %s", [name])
    if cursor.fetchone() is None:  # psycopg deallocates all of them when a transaction is rolled back
        cursor.execute(f"PREPARE {name} AS {text}")
    cursor.execute(f"EXECUTE {name}")


def _ask(name: str) -> list[str]:
    """Return what violates an invariant; keep the statements of one that `each_row_violates`, if nothing does."""
    statements: list[Statement] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append((sql, tuple(params or ())))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        wrong = list(INVARIANTS[name]())
    if name in _RECORDED and not wrong:
        _STATEMENTS[name] = statements
    return wrong


def violations(but: Collection[str] = ()) -> list[str]:
    """Return what is violated, each with the name of its invariant; ``but``: those that are not asked."""
    if not _runs().exists():
        return []
    found, suspects = [], _suspects()
    for name in INVARIANTS:
        if name not in but and (name not in _STATEMENTS or name in suspects):
            wrong = _ask(name)
            found += [f"{name}: {what}" for what in wrong[:SHOWN]]
            if len(wrong) > SHOWN:
                found.append(f"{name}: and {len(wrong) - SHOWN} more")
    return found


def broken_by(test: pytest.Item) -> set[str]:
    """Return the invariants that a test says to break by hand, by marks with a reason."""
    names: set[str] = set()
    for mark in test.iter_markers("breaks_invariant"):
        if not mark.args or not set(mark.args) <= set(INVARIANTS) or not mark.kwargs.get("reason"):
            raise pytest.UsageError(f"{test.nodeid}: a mark breaks_invariant has names of invariants, and a reason")
        names.update(mark.args)
    return names


# What has happened: events.


@invariant
@each_row_violates
def events_are_numbered_without_a_gap() -> Iterator[str]:
    """``seq`` is 1 to n, and n is what the run has counted."""
    counted = _runs().annotate(n=Count("events"), least=Min("events__seq"), most=Max("events__seq"))
    for run in counted.exclude(n=F("event_seq"), least=1, most=F("event_seq")).exclude(n=0, event_seq=0):
        yield f"run {run.pk} counts {run.event_seq} events and has {run.n}, from {run.least} to {run.most}"


def _events_of(type: str) -> Count:
    return Count("events", filter=Q(events__type=type), distinct=True)


@invariant
@each_row_violates
def the_log_has_the_events_of_a_run_in_their_order() -> Iterator[str]:
    """Positions in the log never fall while ``seq`` rises, and the next event of a run gets no smaller one."""
    next_is_before = Exists(
        _events().filter(run=OuterRef("run"), seq=OuterRef("seq") + 1, position__lt=OuterRef("position"))
    )
    for run_id, seq, position in _events().filter(next_is_before).values_list("run", "seq", "position"):
        yield f"event {seq} of run {run_id} is at the position {position}, and the next one is before it"
    ahead = _events().filter(position__gt=F("run__log_position"))
    for run_id, seq, type, position, at in ahead.values_list("run", "seq", "type", "position", "run__log_position"):
        yield f"event {seq} of run {run_id}, {type}, is at the position {position}, and the run at {at}"


@invariant
@each_row_violates
def a_run_is_queued_first_and_again_by_each_retry() -> Iterator[str]:
    """The first event is ``run.queued``; each retry adds one, and so does each pause that a run was put aside for."""
    for event in _events().filter(seq=1).exclude(type="run.queued"):
        yield f"run {event.run_id} begins with {event.type}"
    queued = _runs().annotate(queued=_events_of("run.queued"), paused=_events_of("run.paused")).filter(event_seq__gt=0)
    wrong = queued.exclude(queued__gte=F("retries") + 1, queued__lte=F("retries") + F("paused") + 1)
    for run in wrong:
        yield f"run {run.pk} was retried {run.retries} times, paused {run.paused} and queued {run.queued} times"


@invariant
@each_row_violates
def each_claim_starts_a_run_once() -> Iterator[str]:
    """A run is started once; each claim, which is an epoch of its own, starts or resumes it once at most."""
    runs = _runs().annotate(starts=_events_of("run.started"), resumptions=_events_of("run.resumed"))
    begun = F("starts") + F("resumptions")
    for run in runs.filter(Q(starts__gt=1) | Q(claims__lt=begun) | Q(claims__gt=F("epoch"))):
        times = f"{run.starts} times started and {run.resumptions} times resumed"
        yield f"run {run.pk} was {times} by {run.claims} claims in {run.epoch} epochs"


@invariant
@each_row_violates
def nothing_comes_after_the_end() -> Iterator[str]:
    """An end is the last event of a run, or a retry follows; so there is one end for each time that it has ended."""
    after = _events().filter(run=OuterRef("run"), seq=OuterRef("seq") + 1).exclude(type="run.queued")
    for event in _events().filter(Exists(after), type__in=RUN_END_TYPES):
        yield f"run {event.run_id} goes on after event {event.seq}, {event.type}"


@invariant
@each_row_violates
def the_last_event_is_the_end() -> Iterator[str]:
    """A run that has ended says so last, with the state that it has; one that has not ended does not."""
    others = [Q(run__state=state) & ~Q(type=end) for state, end in RUN_ENDS.items()]
    early = ~Q(run__state__in=TERMINAL_RUN_STATES) & Q(type__in=RUN_END_TYPES)
    last = _events().filter(reduce(or_, others, early), seq=F("run__event_seq"))
    for run_id, type, state in last.values_list("run", "type", "run__state"):
        yield f"run {run_id} is {state}, and its last event is {type}"


@invariant
@asked_where(lambda: _events().filter(type__startswith="node."), NodeRun.objects.across_tenants)
def a_node_has_one_result() -> Iterator[str]:
    """Each node and item ends once between two retries of its run, and what is in `nodes` succeeds once for good."""
    for run_id, events in groupby(_history(), key=lambda event: event["run"]):
        ended: Counter[tuple[str, Any]] = Counter()
        for event in events:
            if _is_retry(event):
                ended.clear()  # `on_failure` and `finally` are done again, as what had failed is
            elif event["type"] in NODE_END_TYPES:
                item = event["data"].get("item")
                ended[event["node_id"], None if item is None else item["index"]] += 1
        for (node_id, index), times in ended.items():
            if times > 1:
                yield f"node {node_id} (item {index}) of run {run_id} has {times} results"


@invariant
@asked_where(lambda: _events().filter(type__startswith="node."), NodeRun.objects.across_tenants)
def a_completed_node_is_not_started_again() -> Iterator[str]:
    """Between two retries, nothing is started after its result."""
    for run_id, events in groupby(_history(), key=lambda event: event["run"]):
        ended: set[str] = set()
        for event in events:
            if _is_retry(event):
                ended.clear()
            elif event["type"] in NODE_END_TYPES and event["data"].get("item") is None:
                ended.add(event["node_id"])
            elif event["type"] == "node.started" and event["node_id"] in ended:
                yield f"node {event['node_id']} of run {run_id} is started by event {event['seq']} after its end"


@invariant
@asked_where(lambda: _events().filter(type__startswith="node."), NodeRun.objects.across_tenants)
def rows_of_nodes_say_what_events_say() -> Iterator[str]:
    """A node that has ended has that as its last event, and what has ended by its events has a row."""
    said: dict[tuple[UUID, str], str] = {}
    for event in _history():
        if _is_retry(event):
            said = {key: type for key, type in said.items() if key[0] != event["run"] or type == "node.succeeded"}
        elif event["data"].get("item") is None and event["node_id"]:
            said[event["run"], event["node_id"]] = event["type"]
    for run_id, node_id, state in _nodes().values_list("run", "node_id", "state"):
        type = said.pop((run_id, node_id), "")
        if state in TERMINAL_NODE_STATES and type not in NODE_END_TYPES:
            yield f"node {node_id} of run {run_id} is {state}, and its last event is {type or 'none'}"
        if (state == NodeState.SUCCEEDED) != (type == "node.succeeded"):
            yield f"node {node_id} of run {run_id} is {state}, and its last event is {type or 'none'}"
    for (run_id, node_id), type in said.items():
        yield f"node {node_id} of run {run_id} has the event {type} and no row"


@invariant
@asked_where(RunLog.objects.across_tenants, lambda: _runs().filter(log_lines__gt=0))
def log_lines_are_numbered_without_a_gap() -> Iterator[str]:
    """``seq`` of the lines of a log is 1 to n, and n is what the run has counted."""
    lines = RunLog.objects.across_tenants().order_by().values("run", "run__log_lines")
    counted = {row["run"]: row for row in lines.annotate(n=Count("pk"), least=Min("seq"), most=Max("seq"))}
    for row in counted.values():
        if (row["n"], row["least"], row["most"]) != (row["run__log_lines"], 1, row["run__log_lines"]):
            yield f"a run counts other lines of its log than there are: {row}"
    for run in _runs().filter(log_lines__gt=0).exclude(pk__in=counted):
        yield f"run {run.pk} counts {run.log_lines} lines of its log and has none"


# What a state is made of.


@invariant
@each_row_violates
def ended_runs_say_when() -> Iterator[str]:
    """``finished_at`` is there exactly when a run has ended, and such a run waits for no time."""
    over = Q(state__in=TERMINAL_RUN_STATES)
    wrong = (over & (Q(finished_at=None) | Q(wake_at__isnull=False))) | (~over & Q(finished_at__isnull=False))
    for run in _runs().filter(wrong):
        yield f"run {run.pk} is {run.state}, ended at {run.finished_at} and is looked at again at {run.wake_at}"


@invariant
@each_row_violates
def leases_are_of_running_runs() -> Iterator[str]:
    """Who runs has an owner, a lease, and an epoch; nobody else has an owner or a lease."""
    running, free = Q(state=RunState.RUNNING), Q(owner="", lease_until=None)
    owned = ~Q(owner="") & Q(lease_until__isnull=False, epoch__gt=0)
    for run in _runs().filter((running & ~owned) | (~running & ~free)):
        yield f"run {run.pk} is {run.state}, of {run.owner!r} until {run.lease_until}, in epoch {run.epoch}"


@invariant
@each_row_violates
def ended_runs_have_no_open_nodes() -> Iterator[str]:
    """What has begun of a run that has ended, has ended: its nodes, and their items."""
    going_on = [NodeState.RUNNING, NodeState.WAITING, NodeState.RETRYING]
    for model in (NodeRun, NodeItem):
        left = model.objects.across_tenants().filter(run__state__in=TERMINAL_RUN_STATES, state__in=going_on)
        for row in left.select_related("run"):
            yield f"{row} of run {row.run_id}, which is {row.run.state}, is {row.state}"


@invariant
@each_row_violates
def states_of_nodes_fit_their_fields() -> Iterator[str]:
    """A node that has ended says when and waits for nothing; one that waits or backs off says for what."""
    over = Q(state__in=TERMINAL_NODE_STATES)
    wrong = over & (Q(finished_at=None) | Q(wake_at__isnull=False))
    wrong |= Q(state=NodeState.WAITING, wait__isnull=True) | Q(state=NodeState.RETRYING, wake_at=None)
    wrong |= Q(state=NodeState.SUCCEEDED, error__isnull=False)
    for node in _nodes().filter(wrong):
        yield f"node {node} of run {node.run_id} is {node.state}: {_shown(node, 'finished_at', 'wake_at', 'wait')}"


@invariant
@each_row_violates
def states_of_items_fit_their_fields() -> Iterator[str]:
    """An item that has ended waits for nothing, one that waits says for what; a skipped one has made nothing."""
    wrong = Q(state__in=TERMINAL_NODE_STATES) & (Q(wait__isnull=False) | Q(wake_at__isnull=False))
    wrong |= Q(state=NodeState.WAITING, wait__isnull=True) | Q(state=NodeState.RETRYING, wake_at=None)
    wrong |= Q(state=NodeState.SKIPPED) & (Q(output__isnull=False) | Q(output_ref__isnull=False))
    for item in NodeItem.objects.across_tenants().filter(wrong):
        yield f"item {item} of run {item.run_id} is {item.state}: {_shown(item, 'wake_at', 'wait', 'output')}"


@invariant
@each_row_violates
def rounds_have_attempts() -> Iterator[str]:
    """Rounds count from 1; each round before the one under way had at least one attempt, and that one has one, too."""
    wrong = Q(round=0) | Q(earlier_attempts__lt=F("round") - 1)
    wrong |= Q(round__gt=1, attempts__lte=F("earlier_attempts"))
    for model in (NodeRun, NodeItem):
        for row in model.objects.across_tenants().filter(wrong):
            yield f"{row} of run {row.run_id}: {_shown(row, 'round', 'attempts', 'earlier_attempts')}"


@invariant
@asked_where(lambda: _events().filter(type__startswith="node."))
def rounds_never_go_back() -> Iterator[str]:
    """The rounds of a node, or an item, that its events tell never fall between two retries of its run."""
    for run_id, events in groupby(_history(), key=lambda event: event["run"]):
        last: dict[tuple[str, Any], tuple[int, int]] = {}
        for event in events:
            if _is_retry(event):
                last.clear()
            elif "attempt" in event["data"]:
                data = event["data"]
                place = event["node_id"], (data.get("item") or {}).get("index")
                now = data.get("round", 1), data["attempt"]
                if now < last.get(place, now):
                    yield f"node {place} of run {run_id} is in round and attempt {now} after {last[place]}"
                last[place] = now


@invariant
@each_row_violates
def who_waits_has_a_reason() -> Iterator[str]:
    """A waiting run waits for a time, for something that one of its nodes waits for, or for its slot."""
    nodes = _nodes().filter(run=OuterRef("pk"), state__in=[NodeState.WAITING, NodeState.RETRYING])
    tickets = _slots().filter(run=OuterRef("pk"), run_epoch=None, held=False)
    for run in _runs().filter(~Exists(nodes), ~Exists(tickets), state=RunState.WAITING, wake_at=None):
        yield f"run {run.pk} waits for nothing"
    for run in _runs().filter(state=RunState.PAUSED, pause_requested_at=None):
        yield f"run {run.pk} is paused, and nobody has asked for that"


@invariant
@asked_where(lambda: _runs().filter(state__in=[RunState.WAITING, RunState.PAUSED]))
def what_has_come_is_not_waited_for() -> Iterator[str]:
    """Nobody sleeps through a request, a signal, or the end of a child run."""
    asleep = Q(state__in=[RunState.WAITING, RunState.PAUSED])
    for run in _runs().filter(asleep, cancel_requested_at__isnull=False):
        yield f"run {run.pk} was asked to stop, and is {run.state}"
    waits: dict[UUID, list[Suspension]] = defaultdict(list)
    rows = _nodes().filter(run__state=RunState.WAITING, state=NodeState.WAITING, wait__isnull=False)
    for run_id, wait in rows.values_list("run", "wait"):
        if wait is not None:
            waits[run_id].append(Suspension.from_dict(wait))
    items = NodeItem.objects.across_tenants().filter(run__state=RunState.WAITING, state=NodeState.WAITING)
    for run_id, wait in items.values_list("run", "wait"):
        waits[run_id].append(Suspension.from_dict(wait or {}))
    if not waits:
        return
    signals = RunSignal.objects.across_tenants().filter(run__in=waits, consumed=False)
    for run_id, name in signals.values_list("run", "name"):
        if any(wait.signal == name for wait in waits[run_id]):
            yield f"run {run_id} waits for the signal {name}, which is there"
    parents = {UUID(child): run_id for run_id, found in waits.items() for wait in found for child in awaited(wait)}
    for child in _runs().filter(pk__in=parents, state__in=TERMINAL_RUN_STATES):
        yield f"run {parents[child.pk]} waits for run {child.pk}, which is {child.state}"


@invariant
@each_row_violates
def ended_parents_have_no_live_children() -> Iterator[str]:
    """What a run that has ended waited for is asked to stop, or has ended, as its node says."""
    orphans = _runs().filter(parent__state__in=TERMINAL_RUN_STATES).exclude(state__in=TERMINAL_RUN_STATES)
    stopped = Q(on_parent_cancel="terminate") | Q(on_parent_cancel="request_cancel", cancel_requested_at=None)
    for run in orphans.filter(stopped):
        yield f"run {run.pk} is {run.state} under run {run.parent_id}, which has ended ({run.on_parent_cancel})"


# What is asked of others: tasks and slots.


@invariant
@each_row_violates
def node_tasks_are_of_running_runs() -> Iterator[str]:
    """Nobody is asked for nodes of a run that has ended, nor in the name of an epoch that was not yet."""
    tasks = NodeTask.objects.across_tenants().select_related("run")
    for task in tasks.filter(Q(run__state__in=TERMINAL_RUN_STATES) | Q(run_epoch__gt=F("run__epoch"))):
        yield f"node {task} is asked for by run {task.run_id}, which is {task.run.state} in epoch {task.run.epoch}"
    half = Q(owner="", lease_until__isnull=False) | (~Q(owner="") & Q(lease_until=None))
    for task in tasks.filter(half | Q(outcomes__isnull=False, lease_until__isnull=False)):
        yield f"task {task.pk} is of {task.owner!r} until {task.lease_until}"


@invariant
@each_row_violates
def slots_are_of_runs_that_go_on() -> Iterator[str]:
    """No run that has ended holds a slot or waits for one; of nodes, only the executor of their run does."""
    lost = Q(run_epoch__isnull=False) & (~Q(run__state=RunState.RUNNING) | ~Q(run__epoch=F("run_epoch")))
    for slot in _slots().filter(Q(run__state__in=TERMINAL_RUN_STATES) | lost).select_related("run"):
        how = "holds" if slot.held else "waits for"
        yield f"run {slot.run_id} {slot.node_id}, which is {slot.run.state}, {how} a slot of {slot.key!r}"


@invariant
@each_row_violates
def no_more_slots_are_held_than_there_are() -> Iterator[str]:
    """Each holder was let in with what its limit said then."""
    held = _slots().filter(held=True).order_by().values("tenant", "lane")
    for lane in held.annotate(n=Count("pk"), most=Max("limit")).filter(n__gt=F("most")):
        yield f"{lane['n']} hold slots of a key with a limit of {lane['most']}"


@invariant
@asked_where(lambda: _slots().filter(held=False))
def nobody_waits_for_a_slot_that_is_free() -> Iterator[str]:
    """Who is first in line waits because as many as it accepts hold a slot."""
    held = Counter(_slots().filter(held=True).values_list("tenant", "lane"))
    lines: dict[tuple[UUID, str], Slot] = {}
    for slot in _slots().filter(held=False).order_by("-priority", "pk"):
        lines.setdefault((slot.tenant_id, slot.lane), slot)
    for key, first in lines.items():
        if held[key] < first.limit:
            yield f"run {first.run_id} waits for a slot of {first.key!r}; {held[key]} of {first.limit} are held"


# Whose it is.


@invariant
@each_row_violates
def what_belongs_together_is_of_one_tenant() -> Iterator[str]:
    """A run, its version, its family, and everything that is its own have one tenant."""
    others = ("workflow", "version", "parent", "source_run")
    tenants = [f"{other}__tenant" for other in others]
    elsewhere = [Q(**{f"{tenant}__isnull": False}) & ~Q(**{tenant: F("tenant")}) for tenant in tenants]
    for run_id, tenant_id, *of in _runs().filter(reduce(or_, elsewhere)).values_list("pk", "tenant", *tenants):
        for other, its in zip(others, of, strict=True):
            if its not in (None, tenant_id):
                yield f"run {run_id} is of another tenant than its {other}"
    for model in OF_RUNS:
        for row in model.objects.across_tenants().filter(run__isnull=False).exclude(run__tenant=F("tenant")):
            yield f"{model.__name__} {row.pk} is of another tenant than its run"


# What is counted beside the rows.


@invariant
def stored_bytes_are_those_of_rows() -> Iterator[str]:
    """The counter of stored bytes is what the tenant's documents, inputs and large values come to."""
    for tenant in Tenant.objects.all():
        there_are, says = counted(tenant.pk)[Quota.STORED_BYTES], _counter(tenant, Quota.STORED_BYTES)
        if there_are != says:
            yield f"{tenant} stores {there_are} bytes, and its counter says {says}"


def _miscounted() -> QuerySet[Tenant]:
    """The tenants whose counters of accepted runs say something else than there are runs."""
    runs = Run.objects.across_tenants().filter(tenant=OuterRef("pk")).order_by().values("tenant")
    counters = UsageCounter.objects.across_tenants().filter(tenant=OuterRef("pk"), name=Quota.RUNS_PER_DAY.value)
    there_are = runs.annotate(n=Count("pk")).values("n")
    says = counters.order_by().values("tenant").annotate(n=Sum("count")).values("n")
    both = {"there_are": Coalesce(Subquery(there_are), 0), "says": Coalesce(Subquery(says), 0)}
    return Tenant.objects.annotate(**both).exclude(there_are=F("says"))  # type: ignore[misc] # annotated above


@invariant
@asked_where(_miscounted)
def runs_per_day_are_those_of_rows() -> Iterator[str]:
    """The counters of accepted runs are the runs that there are; of a tenant that has removed some, at least those."""
    removed = AuditEntry.objects.across_tenants().filter(action__in=["runs.pruned", "workflow.deleted"])
    with_gaps = set(removed.values_list("tenant__slug", flat=True))
    for tenant, there_are, says in _miscounted().values_list("slug", "there_are", "says"):  # type: ignore[misc] # annotated there
        if there_are > says or tenant not in with_gaps:
            yield f"{tenant} has {there_are} runs, and its counters say {says}"


@invariant
@asked_where(lambda: _runs().filter(state=RunState.RUNNING))
def no_more_runs_than_a_tenant_may_have() -> Iterator[str]:
    """Of each tenant no more runs are executed than its limit says; one that waits in place shares it with a child."""
    executed = _runs().filter(state=RunState.RUNNING)
    running = Counter(executed.values_list("tenant", flat=True))
    sharing = executed.filter(called_by__in_place=True, parent__state=RunState.RUNNING).order_by()
    running.subtract(tenant for tenant, _ in sharing.values_list("tenant", "parent").distinct())
    for tenant in Tenant.objects.filter(pk__in=running):
        limit = effective(tenant.plan, tenant.limits)[Quota.CONCURRENT_RUNS]
        if limit is not None and running[tenant.pk] > limit:
            yield f"{running[tenant.pk]} runs of {tenant} are executed, and {limit} may be"


@invariant
def the_audit_is_whole() -> Iterator[str]:
    """The chain of every tenant's audit verifies, and its head is its last entry."""
    for tenant_id in AuditHead.objects.across_tenants().values_list("tenant", flat=True):
        for finding in audit.verify(tenant_id=tenant_id):
            if "the creation of the tenant" not in finding.detail:  # those of tests are not created by the verb
                yield f"tenant {tenant_id}: {finding}"
    for tenant_id in AuditEntry.objects.across_tenants().order_by().values_list("tenant", flat=True).distinct():
        if not AuditHead.objects.for_tenant(tenant_id).exists():
            yield f"tenant {tenant_id} has entries of an audit and no head"


def _counter(tenant: Tenant, quota: Quota) -> int:
    rows = UsageCounter.objects.for_tenant(tenant).filter(name=quota.value)
    return rows.aggregate(total=Sum("count"))["total"] or 0


def _history() -> Iterator[dict[str, Any]]:
    """The events of all runs about nodes, or about queued runs, in their order."""
    told = _events().filter(Q(type__startswith="node.") | Q(type="run.queued")).order_by("run", "seq")
    for event in told.values("run", "seq", "type", "node_id", "data").iterator():
        yield dict(event)


def _is_retry(event: dict[str, Any]) -> bool:
    return event["type"] == "run.queued" and "retry" in event["data"]


def _runs() -> QuerySet[Run]:
    return Run.objects.across_tenants().defer("input", "outputs").order_by("pk")


def _nodes() -> QuerySet[NodeRun]:
    return NodeRun.objects.across_tenants().defer("output")


def _events() -> QuerySet[EventRecord]:
    return EventRecord.objects.across_tenants().filter(run__isnull=False)


def _slots() -> QuerySet[Slot]:
    return Slot.objects.across_tenants()


def _shown(row: Any, *names: str) -> str:
    return ", ".join(f"{name} {getattr(row, name)}" for name in names)


#: The mark of tests whose rows are made as they are, one of every kind, to see who can see them: nobody executes any.
made_of_rows = pytest.mark.breaks_invariant(
    *INVARIANTS, reason="the rows are made as they are, and nothing is executed"
)

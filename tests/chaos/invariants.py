"""What must hold after every fault, of every run that was accepted."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from django.db import connection

from pyflow.core.events import NODE_ENDS, RUN_ENDS
from pyflow.core.states import TERMINAL_NODE_STATES, TERMINAL_RUN_STATES
from runs.models import NodeItem, NodeRun, NodeTask, Run, RunEvent, Slot
from tests.chaos import nodes

RUN_END_TYPES = {str(type) for type in RUN_ENDS.values()}
NODE_END_TYPES = {str(type) for type in NODE_ENDS.values()}

#: Writes of executors are compared with the epoch that the run has then, by the database itself, apart from the fence.
WITNESS = """
CREATE TABLE chaos_writes (run_id uuid, named bigint, epoch bigint, what text);
CREATE FUNCTION chaos_witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE named text := current_setting('chaos.epochs', true);
BEGIN
    IF coalesce(named, '') <> '' THEN
        INSERT INTO chaos_writes
        SELECT NEW.run_id, (named::jsonb ->> NEW.run_id::text)::bigint, epoch, TG_TABLE_NAME
        FROM runs_run WHERE id = NEW.run_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_events AFTER INSERT ON runs_runevent FOR EACH ROW EXECUTE FUNCTION chaos_witness();
CREATE TRIGGER chaos_nodes AFTER INSERT OR UPDATE ON runs_noderun FOR EACH ROW EXECUTE FUNCTION chaos_witness();
"""


def verify(
    accepted: Iterable[Run],
    ledger: Path,
    *,
    states: Collection[str] = ("succeeded",),
    thawed: Collection[int] = (),
) -> None:
    """Raise ``AssertionError`` unless every accepted run, and every other one that is stored, is whole.

    ``states``: how runs may have ended. ``thawed``: processes that were frozen in the middle of nodes, which end after
    others have completed them: what such a node does cannot be taken back, only kept from being recorded.
    """
    runs = {run.pk: run for run in Run.objects.across_tenants()}
    lost = [run.pk for run in accepted if run.pk not in runs]
    assert lost == [], "accepted runs are gone"
    assert {pk: run.state for pk, run in runs.items() if run.state not in states} == {}, _why(runs.values(), states)
    held = {pk: (run.owner, run.lease_until) for pk, run in runs.items() if run.owner or run.lease_until is not None}
    assert held == {}, "runs that have ended belong to nobody"
    effects = nodes.read(ledger)
    for run in runs.values():
        _verify_events(run)
        _verify_nodes(run, [effect for effect in effects if effect.key.startswith(str(run.pk))], thawed)
    _verify_writers()
    assert list(Slot.objects.across_tenants().values_list("run", "node_id", "held")) == [], "slots are free"
    left = NodeTask.objects.across_tenants().filter(run__state__in=TERMINAL_RUN_STATES)
    assert list(left.values_list("run", "node_id")) == [], "nobody is asked for nodes of runs that have ended"


def _why(runs: Iterable[Run], states: Collection[str]) -> str:
    return "; ".join(f"{run.pk} {run.state}: {run.error}" for run in runs if run.state not in states)


def _verify_events(run: Run) -> None:
    events = list(RunEvent.objects.across_tenants().filter(run=run).order_by("seq"))
    told = [f"{event.seq} {event.type} {event.node_id}" for event in events]
    assert [event.seq for event in events] == list(range(1, run.event_seq + 1)), told
    types = Counter(event.type for event in events)
    assert events[0].type == "run.queued", told
    assert types["run.queued"] == 1, told
    ends = [event.type for event in events if event.type in RUN_END_TYPES]
    assert ends == [events[-1].type], f"one end, and nothing after it: {told}"
    assert ends == [f"run.{run.state}"] or run.state == "timed_out", told


def _verify_nodes(run: Run, effects: list[nodes.Effect], thawed: Collection[int]) -> None:
    """One result for each node and item, of which no effect comes after it."""
    events = RunEvent.objects.across_tenants().filter(run=run, type__in=NODE_END_TYPES)
    results: dict[str, list[RunEvent]] = {}
    for event in events:
        item = event.data.get("item")
        key = f"{run.pk}:{event.node_id}" + ("" if item is None else f":{item['key']}")
        results.setdefault(key, []).append(event)
    several = {key: [event.seq for event in found] for key, found in results.items() if len(found) > 1}
    assert several == {}, "one result for each node"
    rows = {f"{run.pk}:{row.node_id}": row.state for row in NodeRun.objects.across_tenants().filter(run=run)}
    assert {key: state for key, state in rows.items() if state not in TERMINAL_NODE_STATES} == {}, "nodes left open"
    if run.state == "succeeded":
        items = {f"{run.pk}:{item.node_id}:{item.key}" for item in NodeItem.objects.across_tenants().filter(run=run)}
        assert set(results) == set(rows) | items, "a result for each node"
    repeated = [
        effect
        for effect in effects
        if effect.key in results and effect.at > results[effect.key][0].at.timestamp() and effect.pid not in thawed
    ]
    assert repeated == [], "completed nodes are not executed again"
    if run.state == "succeeded":
        assert {effect.key for effect in effects} <= set(results), "what had an effect has a result"


def _verify_writers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM chaos_writes")
        [written] = cursor.fetchone()
        cursor.execute("SELECT run_id, named, epoch, what FROM chaos_writes WHERE named IS DISTINCT FROM epoch")
        stale = cursor.fetchall()
    assert written > 0, "nobody has written anything: the witness sees nothing"
    assert stale == [], "nothing is written under an epoch that is over"

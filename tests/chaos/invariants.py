"""What only these tests can ask after a fault, besides `tests.support.invariants`: they see more than the tables say.

They know which runs were accepted, what nodes did outside of the database, and under which epoch each write was made.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from django.db import connection

from runs.models import EventRecord, Run
from tests.chaos import nodes
from tests.support.invariants import NODE_END_TYPES

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
    """Raise ``AssertionError`` unless every run that was accepted has ended, with effects that fit what is recorded.

    ``states``: how runs may have ended. ``thawed``: processes that were frozen in the middle of nodes, which end after
    others have completed them: what such a node does cannot be taken back, only kept from being recorded.
    """
    runs = {run.pk: run for run in Run.objects.across_tenants()}
    lost = [run.pk for run in accepted if run.pk not in runs]
    assert lost == [], "accepted runs are gone"
    assert {pk: run.state for pk, run in runs.items() if run.state not in states} == {}, _why(runs.values(), states)
    effects = nodes.read(ledger)
    for run in runs.values():
        _verify_effects(run, [effect for effect in effects if effect.key.startswith(str(run.pk))], thawed)
    _verify_writers()


def _why(runs: Iterable[Run], states: Collection[str]) -> str:
    return "; ".join(f"{run.pk} {run.state}: {run.error}" for run in runs if run.state not in states)


def _verify_effects(run: Run, effects: list[nodes.Effect], thawed: Collection[int]) -> None:
    """No effect of a node or item comes after its result and, of a run that succeeded, none is without a result."""
    events = EventRecord.objects.across_tenants().filter(run=run, type__in=NODE_END_TYPES)
    ended: dict[str, float] = {}
    for event in events.order_by("seq"):
        item = event.data.get("item")
        key = f"{run.pk}:{event.node_id}" + ("" if item is None else f":{item['key']}")
        ended.setdefault(key, event.at.timestamp())
    repeated = [
        effect
        for effect in effects
        if effect.key in ended and effect.at > ended[effect.key] and effect.pid not in thawed
    ]
    assert repeated == [], "completed nodes are not executed again"
    if run.state == "succeeded":
        assert {effect.key for effect in effects} <= set(ended), "what had an effect has a result"


def _verify_writers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM chaos_writes")
        [written] = cursor.fetchone()
        cursor.execute("SELECT run_id, named, epoch, what FROM chaos_writes WHERE named IS DISTINCT FROM epoch")
        stale = cursor.fetchall()
    assert written > 0, "nobody has written anything: the witness sees nothing"
    assert stale == [], "nothing is written under an epoch that is over"

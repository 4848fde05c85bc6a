"""`verify` sees what it is there for: each thing that must not be, made by hand, is found."""

import json
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.db.models import F

from pyflow.core.ids import new_uuid
from runs.models import NodeRun, Run, RunEvent, Slot
from tests.chaos.world import World

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]


def a_run_is_gone(world: World, run: Run) -> None:
    Run.objects.across_tenants().filter(pk=run.pk).delete()


def a_run_has_not_ended(world: World, run: Run) -> None:
    Run.objects.across_tenants().filter(pk=run.pk).update(state="running")


def an_ended_run_belongs_to_somebody(world: World, run: Run) -> None:
    Run.objects.across_tenants().filter(pk=run.pk).update(owner="a zombie")


def an_event_is_missing(world: World, run: Run) -> None:
    RunEvent.objects.across_tenants().filter(run=run, seq=2).delete()


def something_came_after_the_end(world: World, run: Run) -> None:
    _tell(run, "node.started")


def a_run_has_ended_twice(world: World, run: Run) -> None:
    _tell(run, "run.succeeded")


def a_node_has_two_results(world: World, run: Run) -> None:
    RunEvent.objects.across_tenants().filter(run=run, type="node.started", node_id="two").update(
        type="node.succeeded", node_id="one"
    )


def a_node_is_open(world: World, run: Run) -> None:
    NodeRun.objects.across_tenants().filter(run=run, node_id="one").update(state="running")


def a_result_is_missing(world: World, run: Run) -> None:
    NodeRun.objects.across_tenants().create(tenant=run.tenant, run=run, node_id="three", state="succeeded")


def a_completed_node_was_executed_again(world: World, run: Run) -> None:
    line = {"key": f"{run.pk}:one", "attempt": 1, "pid": 1, "at": time.time() + 1}
    with world.ledger.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


def a_zombie_has_written(world: World, run: Run) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('chaos.epochs', %s, true)", [json.dumps({str(run.pk): 0})])
    NodeRun.objects.across_tenants().filter(run=run, node_id="one").update(attempts=F("attempts"))


def a_slot_is_held(world: World, run: Run) -> None:
    Slot.objects.across_tenants().create(tenant=run.tenant, run=run, key="k", lane="l", limit=1, held=True)


def _tell(run: Run, type: str) -> None:
    run.refresh_from_db()
    seq = run.event_seq + 1
    RunEvent.objects.create(id=new_uuid(), tenant=run.tenant, run=run, seq=seq, type=type, at=run.finished_at, data={})
    Run.objects.across_tenants().filter(pk=run.pk).update(event_seq=seq)


WRONGS: dict[Callable[[World, Run], None], str] = {
    a_run_is_gone: "accepted runs are gone",
    a_run_has_not_ended: "running",
    an_ended_run_belongs_to_somebody: "belong to nobody",
    an_event_is_missing: "run.queued",
    something_came_after_the_end: "one end, and nothing after it",
    a_run_has_ended_twice: "one end, and nothing after it",
    a_node_has_two_results: "one result for each node",
    a_node_is_open: "nodes left open",
    a_result_is_missing: "a result for each node",
    a_zombie_has_written: "under an epoch that is over",
    a_slot_is_held: "slots are free",
    a_completed_node_was_executed_again: "not executed again",  # the last one: no transaction takes it back
}


def test_what_must_not_be_is_found(world: World):
    graph = ({"id": "one", "type": "effect"}, {"id": "two", "type": "effect", "depends_on": ["one"]})
    world.workers(1)
    [run] = world.start(world.workflow(*graph))
    world.settle()
    world.verify()
    for make_wrong, what in WRONGS.items():
        with transaction.atomic():
            make_wrong(world, run)
            with pytest.raises(AssertionError, match=what):
                world.verify()
            transaction.set_rollback(True)

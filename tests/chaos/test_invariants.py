"""`verify` sees what it is there for: each thing that must not be, made by hand, is found."""

import json
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.db.models import F

from runs.models import NodeRun, Run
from tests.chaos.world import ChaosWorld

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, pytest.mark.timeout(900)]


def a_run_is_gone(world: ChaosWorld, run: Run) -> None:
    Run.objects.across_tenants().filter(pk=run.pk).delete()


def a_run_has_not_ended(world: ChaosWorld, run: Run) -> None:
    Run.objects.across_tenants().filter(pk=run.pk).update(state="running")


def a_completed_node_was_executed_again(world: ChaosWorld, run: Run) -> None:
    line = {"key": f"{run.pk}:one", "attempt": 1, "pid": 1, "at": time.time() + 1}
    with world.ledger.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


def what_had_an_effect_has_no_result(world: ChaosWorld, run: Run) -> None:
    line = {"key": f"{run.pk}:three", "attempt": 1, "pid": 1, "at": time.time()}
    with world.ledger.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


def a_zombie_has_written(world: ChaosWorld, run: Run) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('chaos.epochs', %s, true)", [json.dumps({str(run.pk): 0})])
    NodeRun.objects.across_tenants().filter(run=run, node_id="one").update(attempts=F("attempts"))


WRONGS: dict[Callable[[ChaosWorld, Run], None], str] = {
    a_run_is_gone: "accepted runs are gone",
    a_run_has_not_ended: "running",
    a_zombie_has_written: "under an epoch that is over",
    # No transaction takes these back:
    what_had_an_effect_has_no_result: "has a result",
    a_completed_node_was_executed_again: "not executed again",
}


def test_what_must_not_be_is_found(world: ChaosWorld):
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

"""Large inputs and outputs: beside the database once they are recorded, and there when somebody needs them."""

import asyncio
import json
import zlib
from pathlib import Path

import pytest
from django.conf import settings as current
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pyflow.core.ids import new_uuid
from runs.models import EventRecord, NodeItem, NodeRun, NodeTask, Run
from runs.queue.leases import claim
from runs.services.reruns import rerun
from runs.services.retry import retry_run
from runs.storage import values
from runs.storage.reading import input_of, output_of, outputs_of
from runs.storage.values import Owner, Reference
from runs.storage.writer import store
from runs.worker.executor import RunExecutor
from tenants.models import UsageCounter
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support import waiting
from tests.support.factories import records
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import a_test, make_run, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.histories import assert_is_whole
from tests.support.invariants import written_by_hand
from tests.support.processes.running import ended, executing, nodes, parked, send, workers
from workflows.services import archive_workflow, delete_workflow

pytestmark = pytest.mark.database
LIMIT = 2000
LARGE = "x" * 5000
SIZE = len(LARGE) + 2
MAKE = "{id: make, type: make}"
GATE = "{id: gate, type: signal, depends_on: [make], config: {name: go}}"
USE = "{id: use, type: transform, depends_on: [gate], config: {input: '{{ make }}', expression: $}}"


@pytest.fixture(autouse=True)
def low_limit(settings) -> None:
    settings.PYFLOW_LARGE_VALUE_BYTES = LIMIT


@pytest.fixture
def make(registry) -> list[str]:
    """A node type that makes a large value, and whom it was made for."""
    made: list[str] = []

    def run(ctx, config) -> object:
        made.append(ctx.node_id)
        return LARGE + str(getattr(config, "more", ""))

    register(registry, "make", run)
    return made


def files() -> list[Path]:
    return [path for path in Path(current.PYFLOW_VALUES_ROOT).rglob("*") if path.is_file()]


def stored_bytes(tenant) -> int:
    rows = UsageCounter.objects.for_tenant(tenant).filter(name=Quota.STORED_BYTES.value)
    return sum(rows.values_list("count", flat=True))


def limited(tenant, size: int) -> None:
    set_plan(tenant=tenant, plan="enterprise", overrides={"stored_bytes": size}, by=a_test(tenant))


def node(run: Run, node_id: str = "make") -> NodeRun:
    return NodeRun.objects.across_tenants().get(run=run, node_id=node_id)


def test_neither_rows_nor_events_hold_a_large_value(tenant, make, drain):
    small = "{id: small, type: log, depends_on: [make], config: {message: '{{ make|length }}'}}"
    run = make_run(tenant, workflow(MAKE, small, outputs="{it: '{{ make }}'}"))
    drain()
    assert_is_whole(run, ["make", "small"])
    row = node(run)
    assert (row.output, row.output_ref["size"]) == (None, SIZE)
    assert output_of(row) == LARGE
    assert (run.outputs, outputs_of(run)) == (None, {"it": LARGE})
    [event] = EventRecord.objects.for_tenant(tenant).filter(type="node.succeeded", node_id="make")
    assert (event.data["output_ref"], "output" in event.data) == (row.output_ref, False)
    [end] = EventRecord.objects.for_tenant(tenant).filter(type="run.succeeded")
    assert (end.data["outputs_ref"], "outputs" in end.data) == (run.outputs_ref, False)
    assert len(files()) == 2
    assert run.value_bytes == SIZE + run.outputs_ref["size"]
    assert (node(run, "small").output_ref, node(run, "small").output is None) == (None, False)


def test_a_run_that_is_resumed_goes_on_with_it(tenant, make):
    run = make_run(tenant, workflow(MAKE, GATE, USE, outputs="{n: '{{ use|length }}'}"))
    with executing():
        parked(run)
    with executing():
        send(run, "go")
        ended(run, "succeeded")
    assert (run.outputs, make) == ({"n": 5000}, ["make"])


def test_a_large_input_is_there_for_nodes_and_shown_nowhere_else(tenant, drain):
    run = make_run(tenant, workflow("{id: a, type: log, config: {message: '{{ input.text|length }}'}}",
                                    inputs="{text: string}", outputs="{n: '{{ input.text|length }}'}"),
                   {"text": LARGE})  # fmt: skip
    run.refresh_from_db()
    assert (run.input, input_of(run)) == ({}, {"text": LARGE})
    assert run.stored_bytes == run.input_ref["size"] == len(values.content_of({"text": LARGE}))
    drain()
    ended(run, "succeeded")
    assert run.outputs == {"n": 5000}


def test_items_of_a_fan_out_are_stored_apart_and_not_made_again(tenant, make, registry):
    fan = "{id: make, type: make, for_each: '{{ range(3) }}', config: {more: '{{ item }}'}}"
    run = make_run(tenant, workflow(fan, GATE, USE, outputs="{n: '{{ use|map(\"length\")|list }}'}"))
    with executing():
        parked(run)
    items = list(NodeItem.objects.for_tenant(tenant).filter(run=run))
    assert [output_of(item) for item in items] == [f"{LARGE}{i}" for i in range(3)]
    assert [item.output for item in items] == [None] * 3
    with executing():
        send(run, "go")
        ended(run, "succeeded")
    assert (run.outputs, make) == ({"n": [5001] * 3}, ["make"] * 3)


def test_a_node_that_is_executed_elsewhere_reads_and_makes_large_values(tenant, make, registry):
    register(registry, "double", lambda ctx, config: config.value * 2)
    double = "{id: double, type: double, queue: gpu, depends_on: [make], config: {value: '{{ make ~ input.text }}'}}"
    source = workflow(MAKE, double, inputs="{text: string}", outputs="{n: '{{ double|length }}'}")
    run = make_run(tenant, source, {"text": LARGE})
    with workers("", "gpu"):
        ended(run, "succeeded")
    assert run.outputs == {"n": 20_000}
    assert output_of(node(run, "double")) == LARGE * 4
    assert not NodeTask.objects.for_tenant(tenant).exists()


def test_an_outcome_on_its_way_is_a_reference(tenant, make):
    run = make_run(tenant, workflow("{id: make, type: make, queue: gpu}"))
    with workers("gpu"):
        [claimed] = claim("me", 1, queues=("",))
        task = NodeTask.objects.create(
            tenant=tenant, run=run, run_epoch=claimed.epoch, node_id="make", places=[[1, 0.0, None]], queue="gpu"
        )

        def outcomes() -> object:
            task.refresh_from_db()
            return task.outcomes

        [outcome] = waiting.until(outcomes, what="outcome")
    assert outcome["output_ref"]["size"] == SIZE
    assert "output" not in outcome


@pytest.mark.parametrize("outputs", ["{it: '{{ make }}'}", "{}"])
def test_a_child_run_gives_a_large_value_to_its_parent(tenant, make, drain, outputs):
    make_workflow(tenant, workflow(MAKE, name="child", inputs="{text: string}", outputs=outputs))
    call = "{id: call, type: workflow, config: {workflow: child, input: {text: '{{ input.text }}'}}}"
    source = workflow(call, name="parent", inputs="{text: string}", outputs="{n: '{{ call|string|length }}'}")
    run = make_run(tenant, source, {"text": LARGE})
    drain()
    ended(run, "succeeded")
    assert run.outputs["n"] > len(LARGE)
    [child] = Run.objects.for_tenant(tenant).filter(parent=run)
    assert (child.input, input_of(child)) == ({}, {"text": LARGE})


def test_a_run_that_records_only_its_end_has_its_values_stored_too(tenant, make, drain):
    run = make_run(tenant, workflow(MAKE, settings="{durability: run}"))
    drain()
    ended(run, "succeeded")
    assert (node(run).output, output_of(node(run))) == (None, LARGE)


def test_a_secret_is_masked_before_it_is_stored(tenant, registry, drain):
    make_secret(tenant, "TOKEN", "s3cr3t-canary-value")
    register(registry, "leak", lambda ctx: LARGE + ctx.secret("TOKEN"))
    run = make_run(tenant, workflow("{id: leak, type: leak}", outputs="{it: '{{ leak }}'}"))
    drain()
    ended(run, "succeeded")
    assert len(files()) == 2
    for path in files():
        assert b"canary" not in zlib.decompress(path.read_bytes())


def test_an_input_that_turns_out_to_hold_a_secret_is_replaced(tenant, registry, drain):
    make_secret(tenant, "TOKEN", "s3cr3t-canary-value")
    register(registry, "use", lambda ctx: len(ctx.secret("TOKEN")))
    given = {"text": LARGE + "s3cr3t-canary-value"}
    run = make_run(tenant, workflow("{id: use, type: use}", inputs="{text: string}"), given)
    drain()
    ended(run, "succeeded")
    assert "canary" not in json.dumps(input_of(run))
    [path] = files()
    assert b"canary" not in zlib.decompress(path.read_bytes())


def test_a_rerun_has_values_of_its_own(tenant, make, drain):
    source = workflow(MAKE, "{id: use, type: log, depends_on: [make], config: {message: '{{ make|length }}'}}",
                      inputs="{text: string}")  # fmt: skip
    run = make_run(tenant, source, {"text": LARGE})
    drain()
    again = rerun(by=a_test(tenant), run_id=run.pk, start_from="use", version="original")
    values.store().delete_all(Owner(tenant.pk, run.pk))
    drain()
    ended(again, "succeeded")
    assert make == ["make"]
    assert (output_of(node(again)), input_of(again)) == (LARGE, {"text": LARGE})
    run.refresh_from_db()
    assert again.value_bytes == run.value_bytes == SIZE
    assert stored_bytes(tenant) >= run.stored_bytes + again.stored_bytes


def test_a_retry_forgets_what_is_made_anew(tenant, registry, drain):
    fails = [True]

    def broken(ctx) -> str:
        if fails:
            fails.pop()
            raise ValueError("once")
        return LARGE

    register(registry, "make", broken)
    run = make_run(tenant, workflow(MAKE, outputs="{it: '{{ make }}'}"))
    drain()
    ended(run, "failed")
    retry_run(by=a_test(tenant), run_id=run.pk)
    drain()
    ended(run, "succeeded")
    assert outputs_of(run) == {"it": LARGE}


@written_by_hand
def test_small_values_cost_no_statement_and_large_ones_one_a_batch(tenant, settings):
    def statements(size: int) -> int:
        [claimed] = claim("me", 1, make_run(tenant).pk)
        writes = []
        for number in range(3):
            write = records.new_write(claimed)
            write.nodes = {f"n{number}": records.succeeded("x")}
            write.value_bytes = size
            writes.append(write)
        with CaptureQueriesContext(connection) as queries:
            assert store(writes) == set()
        return len(queries)

    statements(0)
    assert statements(5000) == statements(0) + 1


def test_what_is_stored_apart_counts_as_stored_bytes_until_it_goes(tenant, make, drain):
    limited(tenant, 1_000_000)
    run = make_run(tenant, workflow(MAKE))
    before = stored_bytes(tenant)
    drain()
    ended(run, "succeeded")
    assert stored_bytes(tenant) == before + SIZE
    archive_workflow(by=a_test(tenant), name="test", archived=True)
    delete_workflow(by=a_test(tenant), name="test")
    assert stored_bytes(tenant) == 0
    assert files() == []


def test_a_node_whose_output_has_no_room_fails_and_its_failure_is_handled(tenant, make, drain):
    failure = "{id: clean, type: log, config: {message: oh}}"
    run = make_run(tenant, workflow(MAKE, on_failure=f"[{failure}]"))
    limited(tenant, stored_bytes(tenant) + SIZE - 1)
    drain()
    ended(run, "failed")
    assert run.error["code"] == "stored_bytes_exceeded"
    assert "stored_bytes" in run.error["message"]
    assert nodes(run) == {"make": "failed", "clean": "succeeded"}
    assert (files(), make) == ([], ["make"])


def test_with_just_enough_room_it_is_stored(tenant, make, drain):
    run = make_run(tenant, workflow(MAKE))
    limited(tenant, stored_bytes(tenant) + SIZE)
    drain()
    ended(run, "succeeded")


def damage(run: Run) -> None:
    reference = Reference.of(node(run).output_ref)
    [path] = [path for path in files() if path.name.startswith(reference.sha256)]
    path.write_bytes(zlib.compress(b'"another"'))


@pytest.mark.parametrize(
    ("harm", "code"), [(damage, "value_corrupt"), (lambda run: files()[0].unlink(), "value_missing")]
)
def test_a_run_whose_value_is_damaged_fails_and_others_go_on(tenant, make, harm, code):
    source = workflow(MAKE, GATE, USE)
    run = make_run(tenant, source)
    with executing():
        parked(run)
    harm(run)
    other = make_run(tenant, source)
    with executing():
        parked(other)
    send(run, "go")
    send(other, "go")
    with executing():
        ended(run, "failed")
        ended(other, "succeeded")
    assert run.error["code"] == code


def test_a_reference_that_is_none_fails_its_run_only(tenant, make, drain):
    source = workflow(MAKE, GATE, USE)
    run = make_run(tenant, source)
    with executing():
        parked(run)
    NodeRun.objects.for_tenant(tenant).filter(run=run, node_id="make").update(output_ref=["no reference"])
    other = make_run(tenant, workflow("{id: a, type: log, config: {message: x}}", name="other"))
    send(run, "go")
    drain()
    ended(run, "failed")
    ended(other, "succeeded")
    assert run.error["code"] == "value_corrupt"


def test_the_reference_of_another_tenants_value_leads_nowhere(tenant, make, drain):
    run = make_run(tenant, workflow(MAKE))
    drain()
    reference = Reference.of(node(run).output_ref)
    foreign = NodeRun(tenant_id=new_uuid(), run_id=run.pk, output_ref=reference.as_dict())
    with pytest.raises(values.ValueMissingError):
        output_of(foreign)


def test_without_a_storage_values_stay_in_the_database_and_runs_go_on(tenant, make, drain, settings, tmp_path, caplog):
    settings.PYFLOW_VALUES_ROOT = tmp_path / "a file"
    settings.PYFLOW_VALUES_ROOT.touch()
    run = make_run(tenant, workflow(MAKE, outputs="{it: '{{ make }}'}"))
    drain()
    ended(run, "succeeded")
    assert (node(run).output, node(run).output_ref) == (LARGE, None)
    assert (run.outputs, run.value_bytes) == ({"it": LARGE}, 0)
    assert "stays in the database" in caplog.text


def test_an_executor_that_is_lost_between_the_file_and_the_row_costs_nothing(tenant, make, monkeypatch, drain):
    """The file is there, its row is not: the node is made again, and finds its file."""
    run = make_run(tenant, workflow(MAKE))
    assert values.put(Owner(tenant.pk, run.pk), values.content_of(LARGE)) is not None
    drain()
    ended(run, "succeeded")
    assert len(files()) == 1
    assert output_of(node(run)) == LARGE


def test_many_runs_with_large_values_at_once(tenant, make):
    connection.close()
    runs = [make_run(tenant, workflow(MAKE, outputs="{n: '{{ make|length }}'}")) for _ in range(20)]
    connection.close()
    asyncio.run(RunExecutor().drain())
    for run in runs:
        ended(run, "succeeded")
        assert output_of(node(run)) == LARGE

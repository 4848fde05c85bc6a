"""Matrix items, items that are skipped, and outputs by key, as rows of the platform."""

import pytest

from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from runs.explain.explanation import explain_run
from runs.models import EventRecord, NodeItem
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.processes.running import ended, workers

pytestmark = pytest.mark.database

MATRIX = "{matrix: {os: [linux, macos], py: '{{ input.py }}'}, exclude: [{os: macos, py: 11}], include: [{os: bsd}]}"
INPUT = {"py": [11, 12]}


def source(**fields: str) -> str:
    more = "".join(f", {name}: {value}" for name, value in fields.items())
    node = f"{{id: a, type: odd, for_each: {MATRIX}, config: {{key: '{{{{ item_key }}}}'}}{more}}}"
    return workflow(node, outputs="{got: '{{ a }}'}", inputs="{py: array}")


@pytest.fixture
def odd(registry) -> None:
    """A node type that fails for a key with 11 in it."""

    def run(ctx, config) -> str:
        if "11" in config.key:
            raise ValueError("odd")
        return config.key

    register(registry, "odd", run)


FIELDS = {"collect": "mapping", "item_when": "item.os != 'bsd'", "tolerate_failures": "1"}
GOT = {"linux-11": None, "linux-12": "linux-12", "macos-12": "macos-12", "bsd": None}


def test_items_of_a_matrix_are_rows(tenant, drain, odd):
    run = make_run(tenant, source(**FIELDS), INPUT)
    drain()
    assert ended(run, "succeeded").outputs == {"got": GOT}
    items = NodeItem.objects.for_tenant(tenant).order_by("index")
    assert list(items.values_list("key", "state", "attempts")) == [
        ("linux-11", "failed", 1),
        ("linux-12", "succeeded", 1),
        ("macos-12", "succeeded", 1),
        ("bsd", "skipped", 0),
    ]
    [skip] = EventRecord.objects.for_tenant(tenant).filter(type="node.skipped")
    assert (skip.data["item"], skip.data["reason"]) == ({"index": 3, "key": "bsd"}, "item_when")
    reasons = explain_run(tenant_id=tenant.pk, run_id=run.pk).reasons
    assert [reason.detail for reason in reasons if reason.code == "items"] == [
        "Node 'a' has succeeded: 1 of 4 items failed (tolerated), 1 of 4 items skipped."
    ]


def test_workers_of_a_queue_find_the_same_items(tenant, odd):
    run = make_run(tenant, source(**FIELDS, queue="far"), INPUT)
    with workers("", "far"):
        assert ended(run, "succeeded").outputs == {"got": GOT}


async def test_the_library_comes_to_the_same(registry, odd):
    result = await WorkflowEngine(registry).execute(parse_workflow(source(**FIELDS)), input=INPUT)
    assert result.outputs == {"got": GOT}

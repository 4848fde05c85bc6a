"""`set`, `now`, `random()` and `uuid()` on the platform: what a node computed before a crash, it computes again."""

import json
import signal

import pytest

from runs.models import NodeRun, Run
from runs.services.retry import retry_run
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.processes.platform import drain_elsewhere
from tests.support.processes.running import ended, expire, operator, workers
from tests.support.servers import ledger as ledgers

pytestmark = pytest.mark.database

DRAWN = "[now, uuid(), random(), uuid()]"


def node_of(run: Run, node: str) -> NodeRun:
    return NodeRun.objects.for_tenant(run.tenant_id).get(run=run, node_id=node)


@pytest.mark.parametrize("each", [{}, {"for_each": ["x"], "item_key": "{{ item }}"}])
def test_a_node_whose_executor_is_killed_computes_the_same_again(tenant, tmp_path, each):
    with ledgers.serving(tmp_path / "ledger") as ledger:
        drawn = "{{ now.timestamp() }}_{{ uuid() }}_{{ random() }}_{{ today('Asia/Tokyo') }}"
        call = {
            "id": "call",
            "type": "http",
            "config": {"url": f"{ledger.url}/{{{{ run.id }}}}/{drawn}", "timeout": 60},
        }
        run = make_run(tenant, f"version: 2\nname: computing\nnodes: {json.dumps([call | each])}\n")
        ledger.pace = 60.0
        process = drain_elsewhere()
        try:
            waiting.until(lambda: len(ledger.calls()) == 1, 60, "first call")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        ledger.pace = 0.0
        expire(run)
        assert drain_elsewhere().wait(60) == 0
        ended(run, "succeeded")
        first, second = (call.node for call in ledger.calls())
    assert first == second
    assert float(first.split("_")[0]) == node_of(run, "call").started_at.timestamp()


def test_a_set_node_computes_with_what_is_recorded(tenant, drain):
    source = workflow(
        "{id: a, type: set, config: {at: now, due: \"output.at + duration('1d')\","
        " rows: \"[{'d': 'x'}, {'d': 'y'}]\"}}",
        "{id: b, type: set, depends_on: [a], for_each: '{{ a.rows }}', config: {k: item.d, i: item_index,"
        " late: 'now > datetime(a.due)'}}",
        outputs="{days: \"{{ group_by(b, 'k') }}\"}",
    )
    run = make_run(tenant, source)
    drain()
    ended(run, "succeeded")
    assert node_of(run, "a").output["at"] == node_of(run, "a").started_at.isoformat()
    assert run.outputs == {"days": {"x": [{"k": "x", "i": 0, "late": False}], "y": [{"k": "y", "i": 1, "late": False}]}}


def test_attempts_of_a_node_see_one_now_and_a_retried_run_another(tenant, drain, registry):
    seen: list[dict[str, object]] = []

    def flaky(ctx, config) -> None:
        seen.append(dict(config.model_extra))
        if len(seen) < 4:
            raise RuntimeError("not yet")

    register(registry, "flaky", flaky)
    retry = "{max_attempts: 3, initial_interval: 1ms}"
    config = "{at: '{{ now }}', drawn: '{{ [uuid(), random()] }}'}"
    run = make_run(tenant, workflow(f"{{id: a, type: flaky, retry: {retry}, config: {config}}}"))
    drain()
    ended(run, "failed")
    assert seen == [seen[0]] * 3
    retry_run(by=operator(run), run_id=run.pk)
    drain()
    ended(run, "succeeded")
    assert seen[3]["drawn"] == seen[0]["drawn"]
    assert seen[3]["at"] > seen[0]["at"]


def test_a_worker_of_another_queue_sees_what_the_run_does(tenant, registry):
    register(registry, "give", lambda ctx, config: config.model_extra["drawn"])
    source = workflow(
        f"{{id: a, type: give, queue: far, config: {{drawn: '{{{{ {DRAWN} }}}}'}}}}",
        f"{{id: b, type: give, queue: far, for_each: [x, y], config: {{drawn: '{{{{ {DRAWN} }}}}'}}}}",
        f"{{id: c, type: set, queue: far, config: {{drawn: '{DRAWN}'}}}}",
    )
    with workers("", "far"):
        run = make_run(tenant, source)
        ended(run, "succeeded")
    for node in ("a", "c"):
        output = node_of(run, node).output
        drawn = output if node == "a" else output["drawn"]
        assert drawn[0] == node_of(run, node).started_at.isoformat()
    items = node_of(run, "b").output
    assert items[0][0] == items[1][0] == node_of(run, "b").started_at.isoformat()
    assert items[0][1] != items[1][1]

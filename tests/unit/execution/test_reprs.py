"""What a run left behind says by its ``repr`` how it went: states, ids and counts, and no value of the run."""

from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.ports import MappingSecrets
from pyflow.core.result import ErrorInfo, RunResult
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage

SECRET = "kdf83-jd02k-d93kd-0wkx7"
VALUE = "a-value-of-the-run"
WORKFLOW = """
version: 2
name: daily
nodes:
  - {id: each, type: template, for_each: "{{ input.rows }}", config: {template: "{{ 6 // item }}"}}
  - {id: fails, type: fail, config: {message: "no {{ secrets.token }}"}, on_error: continue}
  - {id: keeps, type: template, config: {template: "{{ input.text }}"}}
  - {id: stops, type: fail, config: {message: "{{ input.text }}"}, depends_on: [keeps]}
"""


async def _run() -> RunResult:
    engine = WorkflowEngine(secrets=MappingSecrets({"token": SECRET}))
    return await engine.execute(parse_workflow(WORKFLOW), run_id="r1", input={"rows": [1, 0, 2], "text": VALUE})


async def test_a_result_says_state_ids_and_counts():
    result = await _run()
    assert repr(result) == "<RunResult 'r1' of 'daily': failed, nodes: 3 failed, 1 succeeded, non_retryable_error>"
    assert repr(result.nodes["each"]) == (
        "<NodeRun each: failed, attempts: 1, items: 1 succeeded, 1 failed, items_failed>"
    )
    assert result.nodes["each"].items is not None
    assert repr(result.nodes["each"].items[1]) == "<ItemRun 1: failed, attempts: 1, template_error>"
    assert repr(result.nodes["keeps"]) == "<NodeRun keeps: succeeded, attempts: 1>"
    assert repr(result.nodes["fails"]) == "<NodeRun fails: failed, attempts: 1, non_retryable_error>"
    assert repr(result.nodes["fails"].error) == "<ErrorInfo in fails: non_retryable_error: no ***>"
    assert repr(result.context) == "<ExecutionContext of run 'r1' of 'daily': results: 2, errors: 3>"


async def test_no_value_and_no_secret_is_in_them():
    result = await _run()
    shown = [repr(each) for each in (result, result.context, *result.nodes.values(), result.nodes["fails"].error)]
    assert not [text for text in shown if VALUE in text or SECRET[:8] in text or " at 0x" in text]


async def test_a_run_in_progress_says_how_far_it_is():
    engine = WorkflowEngine(secrets=MappingSecrets({"token": SECRET}))
    execution = stage.start(engine, parse_workflow(WORKFLOW), run_id="r1", input={"rows": [], "text": VALUE})
    assert repr(execution) == "<Execution of run 'r1' of 'daily': not ended, nodes: 4 pending>"
    await execution.wait()
    assert repr(execution) == "<Execution of run 'r1' of 'daily': failed, nodes: 2 succeeded, 2 failed>"


def test_they_are_bounded():
    long: Any = "x" * 5000
    assert len(repr(ErrorInfo("node_error", long, "ValueError", "n"))) < 200
    assert len(repr(ExecutionContext(workflow_name=long, run_id=long))) < 300

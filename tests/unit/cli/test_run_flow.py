"""`pyflow run` with what spans runs: workflows beside the file, detached children, signals."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app

PARENT = """
version: 2
name: parent
nodes: [{id: call, type: workflow, config: {workflow: child, input: {n: 4}, wait: WAIT}}]
"""
CHILD = """
version: 2
name: child
inputs: {n: integer}
outputs: {twice: "{{ twice }}"}
nodes:
  - {id: pause, type: wait, config: {duration: 1ms}}
  - {id: twice, type: template, depends_on: [pause], config: {template: "{{ input.n * 2 }}"}}
"""
WAITS = """
version: 2
name: waits
outputs: {paid: "{{ paid }}", by: "{{ decide.by }}"}
nodes:
  - {id: paid, type: signal, config: {name: payment}}
  - {id: decide, type: approval, depends_on: [paid], config: {assignees: ["role:admin"]}}
"""


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["run", *(str(arg) for arg in args)])


def result_of(*args: object, code: int = 0) -> dict[str, Any]:
    done = invoke(*args, "--format", "json")
    assert done.exit_code == code, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """The parent's file, which waits; the child's beside it has another name, and others are no workflows."""
    (tmp_path / "the-other.yml").write_text(CHILD)
    (tmp_path / "notes.yaml").write_text("[what, ever")
    (tmp_path / "data.json").write_text("[1, 2]")
    path = tmp_path / "parent.yaml"
    path.write_text(PARENT.replace("WAIT", "true"))
    return path


def test_a_workflow_node_finds_the_workflows_beside_the_file(parent: Path):
    assert result_of(parent)["nodes"][0]["output"] == {"twice": 8}


def test_a_workflow_that_no_file_has_is_refused(parent: Path):
    (parent.parent / "the-other.yml").unlink()
    assert result_of(parent, code=1)["error"]["message"] == "there is no workflow named 'child'"


def test_two_files_of_one_name_are_refused_and_named(parent: Path):
    (parent.parent / "twin.yaml").write_text(CHILD)
    message = result_of(parent, code=1)["error"]["message"]
    assert "the-other.yml, twin.yaml" in message


def test_the_command_waits_for_a_detached_child(parent: Path):
    parent.write_text(PARENT.replace("WAIT", "false"))
    done = invoke(parent, "--format", "ndjson")
    assert done.exit_code == 0, done.output
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["workflow"] for event in ended if event["type"] == "run.succeeded"] == ["parent", "child"]


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    path = tmp_path / "waits.yaml"
    path.write_text(WAITS)
    return path


def test_signals_are_delivered_from_the_command_line(waits: Path):
    decision = waits.parent / "decision.json"
    decision.write_text('{"approved": true, "by": "ada"}')
    result = result_of(waits, "--signal", "payment=12.5", "--signal", f"approval:decide=@{decision}")
    assert result["outputs"] == {"paid": 12.5, "by": "ada"}


def test_a_signal_that_is_not_json_is_text(waits: Path):
    result = result_of(waits, "--signal", "payment=in cash", "--signal", 'approval:decide={"approved": true}')
    assert result["outputs"]["paid"] == "in cash"


def test_a_no_from_the_command_line_fails_the_run(waits: Path):
    result = result_of(waits, "--signal", "payment=1", "--signal", 'approval:decide={"approved": false}', code=1)
    assert result["error"]["code"] == "approval_rejected"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("payment", "give NAME=JSON or NAME=@FILE"),
        ("=1", "give NAME=JSON or NAME=@FILE"),
        ("payment={", "not valid JSON"),
        ("payment=@missing.json", "there is no file missing.json"),
    ],
)
def test_a_signal_that_cannot_be_read_is_wrong_usage(waits: Path, given: str, told: str):
    done = invoke(waits, "--signal", given)
    assert done.exit_code == 2
    assert told in done.stderr


# --- mocks of a parent and of its child

MOCKED_PARENT = """
version: 2
name: parent
nodes:
  - {id: twice, type: template, config: {template: mine}}
  - {id: call, type: workflow, depends_on: [twice], config: {workflow: child, input: {n: 4}}}
"""


def outputs_with(parent: Path, **mocks: int) -> list[object]:
    parent.write_text(MOCKED_PARENT)
    options = []
    for number, (node, output) in enumerate(mocks.items()):
        file = parent.parent / f"mock-{number}.json"
        file.write_text(json.dumps(output))
        options += ["--mock", f"{node}={file}"]
    return [node["output"] for node in result_of(parent, *options)["nodes"]]


def test_a_mock_of_a_node_leaves_the_nodes_of_child_runs_alone(parent: Path):
    assert outputs_with(parent, twice=1) == [1, {"twice": 8}]


def test_a_node_of_a_child_run_is_mocked_by_the_name_of_its_workflow(parent: Path):
    assert outputs_with(parent, **{"child/twice": 5}) == ["mine", {"twice": 5}]


def test_a_mocked_node_of_a_child_run_needs_no_node_type(parent: Path):
    (parent.parent / "the-other.yml").write_text(CHILD.replace("type: template", "type: not_written_yet"))
    assert outputs_with(parent, **{"child/twice": 5}) == ["mine", {"twice": 5}]


@pytest.mark.parametrize(
    ("mock", "said"),
    [
        ("chidl/twice", "has a workflow named 'chidl'"),
        ("child/twiec", "there is no node 'twiec' in workflow 'child' to mock (did you mean 'twice'?)"),
    ],
)
def test_a_mock_of_what_no_child_has_is_refused(parent: Path, mock: str, said: str):
    (parent.parent / "mock.json").write_text("1")
    done = invoke(parent, "--mock", f"{mock}={parent.parent / 'mock.json'}")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())

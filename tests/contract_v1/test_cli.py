"""v1's four commands: what they print, where, and how they exit."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app

GOOD = """
name: greet
trigger: {type: manual}
nodes:
  - {id: hello, type: condition, config: {if: "1 < 2"}}
  - {id: world, type: transform, depends_on: [hello], config: {input: {a: 1}, expression: $.a}}
"""
FAILING = """
name: shaky
trigger: {type: manual}
nodes:
  - {id: bad, type: storage, config: {path: x.json, action: explode}, on_error: skip}
  - {id: unwanted, type: condition, when: "1 > 2", config: {if: "1"}}
  - {id: fine, type: condition, depends_on: [bad], config: {if: "1"}}
"""
STOPPING = """
name: stopping
trigger: {type: manual}
nodes:
  - {id: bad, type: condition, config: {if: "missing > 1"}}
  - {id: after, type: condition, depends_on: [bad], config: {if: "1"}}
"""
CYCLE = """
name: loop
trigger: {type: manual}
nodes:
  - {id: a, type: condition, depends_on: [b], config: {if: "1"}}
  - {id: b, type: condition, depends_on: [a], config: {if: "1"}}
"""
UNKNOWN_DEPENDENCY = """
name: lost
trigger: {type: manual}
nodes:
  - {id: a, type: condition, depends_on: [ghost], config: {if: "1"}}
"""


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, name: str = "flow.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def pyflow(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def test_run_prints_the_name_the_run_id_and_a_line_for_each_node(file: Any):
    done = pyflow("run", file(GOOD))
    lines = done.stdout.splitlines()
    assert lines[0] == "Running workflow: greet"
    assert re.fullmatch(r"Completed\. Run ID: \S+", lines[1])
    assert lines[2:] == ["  hello: OK", "  world: OK"]
    assert done.stderr == ""
    assert done.exit_code == 0


def test_run_prints_errors_and_skips_and_exits_with_zero(file: Any):
    done = pyflow("run", file(FAILING))
    assert done.stdout.splitlines()[2:] == [
        "  bad: ERROR — Unknown storage action: 'explode'",
        "  unwanted: SKIPPED",
        "  fine: OK",
    ]
    assert done.exit_code == 0


def test_run_that_stops_at_an_error_is_still_completed_and_exits_with_zero(file: Any):
    done = pyflow("run", file(STOPPING))
    lines = done.stdout.splitlines()
    assert lines[1].startswith("Completed. Run ID: ")
    assert lines[2].startswith("  bad: ERROR — ")
    assert lines[3] == "  after: SKIPPED"
    assert done.exit_code == 0


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CYCLE, "Cycle"),
        (UNKNOWN_DEPENDENCY, "does not exist"),
        (GOOD.replace("id: world", "id: hello"), "Duplicate node id: hello"),
        ("name: [", "not valid YAML"),
        ("", "empty"),
        ("- a list", "mapping"),
        ("name: x\ntrigger: {type: manual}\n", "nodes"),
        ("name: x\nnodes: []\n", "trigger"),
    ],
    ids=["cycle", "unknown dependency", "duplicate", "bad YAML", "empty", "list", "no nodes", "no trigger"],
)
def test_a_definition_error_is_told_on_stderr_with_exit_code_one(command: str, text: str, message: str, file: Any):
    done = pyflow(command, file(text))
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("Invalid: " if command == "validate" else "Error: ")


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_missing_file_is_told_on_stderr_with_exit_code_one(command: str, tmp_path: Path):
    done = pyflow(command, str(tmp_path / "nowhere.yaml"))
    assert done.exit_code == 1
    assert "nowhere.yaml" in done.stderr
    assert done.stdout == ""


def test_validate_prints_the_name_and_the_number_of_nodes(file: Any):
    done = pyflow("validate", file(GOOD))
    assert done.stdout == "Valid: greet (2 nodes)\n"
    assert done.exit_code == 0


def test_validate_does_not_look_at_node_types_of_v1_files(file: Any):
    done = pyflow("validate", file(GOOD.replace("type: condition", "type: own_type")))
    assert done.stdout == "Valid: greet (2 nodes)\n"


def test_list_prints_a_line_for_each_workflow_in_order(file: Any, tmp_path: Path):
    file(GOOD, "b.yml")
    file(FAILING.replace("type: manual", "type: webhook"), "a.yaml")
    file("not a workflow", "notes.txt")
    done = pyflow("list", str(tmp_path))
    assert done.stdout == "  shaky [webhook] (3 nodes)\n  greet [manual] (2 nodes)\n"
    assert done.exit_code == 0


@pytest.mark.parametrize("there", [True, False])
def test_list_of_an_empty_or_missing_directory(there: bool, tmp_path: Path):
    folder = tmp_path / "flows"
    if there:
        folder.mkdir()
    done = pyflow("list", str(folder))
    assert done.stdout == "No workflows found.\n"
    assert done.exit_code == 0


def test_list_looks_into_workflows_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "greet.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert pyflow("list").stdout == "  greet [manual] (2 nodes)\n"


@pytest.mark.parametrize("target", ["uvicorn.run", "pyflow.cli.uvicorn.run"])
@pytest.mark.parametrize(
    ("args", "host", "port"),
    [([], "127.0.0.1", 8000), (["--host", "0.0.0.0", "--port", "9001"], "0.0.0.0", 9001)],
)
def test_serve_starts_uvicorn_with_the_app(
    args: list[str], host: str, port: int, target: str, file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(target, lambda *args, **kwargs: calls.append((args, kwargs)))
    file(GOOD)
    done = pyflow("serve", str(tmp_path), *args)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"Starting PyFlow server on {host}:{port}\n"
    [(positional, named)] = calls
    assert callable(positional[0])
    assert named == {"host": host, "port": port}

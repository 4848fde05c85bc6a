"""`pyflow run`: what version 2 added."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app, job
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.nodes import default_registry

FLOW = """
version: 2
name: prices
inputs: {amount: number, who: {type: string, default: you}}
outputs: {total: "{{ total }}"}
nodes:
  - {id: double, type: template, config: {template: "{{ input.amount * 2 }}"}}
  - {id: total, type: template, depends_on: [double], config: {template: "{{ double + 1 }}"}}
  - {id: greet, type: template, depends_on: [double], config: {template: "{{ double }} for {{ input.who }}"}}
"""
FAILS = """
version: 2
name: fails
nodes:
  - {id: broken, type: fail, config: {message: no luck}}
  - {id: after, type: template, depends_on: [broken], config: {template: x}}
finally:
  - {id: bye, type: log, config: {message: "{{ run.state }}"}}
"""
TOLERATED = """
version: 2
name: tolerated
nodes: [{id: broken, type: fail, on_error: skip, config: {message: no luck}}]
"""
V1 = """
name: old
trigger: {type: manual}
nodes:
  - {id: seen, type: transform, config: {input: "{{ trigger }}", expression: $.city}}
  - {id: bad, type: condition, config: {if: "nothing > 1"}, on_error: skip}
"""


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, name: str = "flow.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> NodeRegistry:
    """The command line's node types, for a test to add to."""
    registry = default_registry.copy()
    monkeypatch.setattr(job, "default_registry", registry)
    return registry


def pyflow(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(args), **options)


def run_json(*args: str, code: int = 0, **options: Any) -> dict[str, Any]:
    done = pyflow("run", *args, "--format", "json", **options)
    assert done.exit_code == code, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    result["outputs_by_id"] = {node["id"]: node.get("output") for node in result["nodes"]}
    result["states"] = {node["id"]: node["state"] for node in result["nodes"]}
    return result


# --- input


def test_values_are_json_where_they_are_json_and_text_where_the_workflow_wants_text(file: Any):
    result = run_json(file(FLOW), "--input", "amount=20.5", "--input", "who=42")
    assert result["outputs_by_id"]["greet"] == "41.0 for 42"
    assert result["outputs"] == {"total": 42.0}


def test_input_comes_from_files_and_from_standard_input_the_later_winning(file: Any):
    data = file('{"amount": 1, "who": "file"}', "input.json")
    piped = run_json(file(FLOW), "--input", f"@{data}", "--input", "-", input="amount: 5\n")
    assert piped["outputs_by_id"]["greet"] == "10 for file"


def test_one_value_comes_from_a_file(file: Any):
    name = file("Ada\n", "name.txt")
    amount = file("[1, 2", "notes.txt")
    assert run_json(file(FLOW), "-i", "amount=1", "-i", f"who=@{name}")["outputs_by_id"]["greet"] == "2 for Ada\n"
    assert run_json(file(FLOW), "-i", "amount=1", "-i", "who=@@home")["outputs_by_id"]["greet"] == "2 for @home"
    assert run_json(file(FLOW), "-i", "amount=1", "-i", f"who=@{amount}")["outputs_by_id"]["greet"] == "2 for [1, 2"


def test_a_v1_workflow_sees_the_input_as_trigger(file: Any):
    assert run_json(file(V1), "--input", "city=Oslo")["outputs_by_id"]["seen"] == "Oslo"


def test_input_that_does_not_fit_is_a_usage_error_that_names_everything(file: Any):
    done = pyflow("run", file(FLOW), "--input", "amount=much", "--input", "who=x")
    assert done.exit_code == 2
    assert '/amount: the value is not of type "number"' in done.stderr
    missing = pyflow("run", file(FLOW))
    assert missing.exit_code == 2
    assert '"amount" is a required property' in missing.stderr


# --- exit codes and verdicts


def test_a_failed_run_exits_with_one_and_says_why(file: Any):
    done = pyflow("run", file(FAILS))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].startswith("Failed. Run ID: ")
    assert "  broken: ERROR — no luck" in done.stdout
    assert "  after: SKIPPED" in done.stdout
    assert "  bye: OK" in done.stdout
    assert done.stderr == "Error: node 'broken': no luck\n"


@pytest.mark.parametrize(("text", "lenient"), [(TOLERATED, 0), (V1, 0)], ids=["v2", "v1"])
def test_strict_turns_any_node_error_into_exit_code_one(text: str, lenient: int, file: Any):
    path = file(text)
    assert pyflow("run", path, "-i", "city=x").exit_code == lenient
    assert pyflow("run", path, "-i", "city=x", "--strict").exit_code == 1


def test_a_run_that_takes_too_long_exits_with_one(file: Any, registry: NodeRegistry):
    text = FLOW.replace("name: prices", "name: slow\nsettings: {timeout: 50ms}").replace("type: template", "type: nap")

    @registry.register
    class Nap(BaseNode[Any, Any]):
        node_type = "nap"

        async def execute(self, config: Any, context: Any) -> object:
            await asyncio.sleep(30)
            return None

    done = pyflow("run", file(text), "-i", "amount=1")
    assert done.exit_code == 1
    assert "Timed out. Run ID: " in done.stdout
    assert "  double: CANCELLED" in done.stdout
    assert "0.05 s" in done.stderr


def test_an_invalid_version_2_document_exits_with_three_and_reports_all_with_positions(file: Any):
    path = file("version: 2\nname: x\nnodes:\n  - {id: a, type: templat, config: {}}\n  - {id: b, typ: log}\n")
    done = pyflow("run", path)
    assert done.exit_code == 3
    assert f"{path}:5:" in done.stderr
    assert "did you mean 'type'?" in done.stderr
    types = file("version: 2\nname: x\nnodes:\n  - {id: a, type: templat}\n")
    done = pyflow("run", types)
    assert done.exit_code == 3
    assert f"{types}:4:13: Unknown node type: templat (did you mean 'template'?)" in done.stderr


def test_a_schema_that_is_none_is_an_invalid_definition(file: Any):
    text = FLOW.replace("inputs: {", "inputs: {odd: {type: string, pattern: '('}, ")
    for command in ("run", "validate"):
        done = pyflow(command, file(text))
        assert done.exit_code == 3, done.output
        assert "JSON Schema" in done.stderr


# --- formats


def test_ndjson_is_one_event_a_line_and_then_the_result(file: Any):
    done = pyflow("run", file(FLOW), "-i", "amount=1", "--format", "ndjson")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines[:2]] == ["run.started", "node.started"]
    assert [line["seq"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert lines[-1]["type"] == "result"
    assert lines[-1]["outputs"] == {"total": 3}


def test_verbose_reports_events_on_stderr_and_outputs_on_stdout(file: Any):
    done = pyflow("run", file(FLOW), "-i", "amount=1", "--verbose")
    assert "double: succeeded" in done.stderr
    assert '    "2 for you"' in done.stdout
    assert "double: succeeded" not in done.stdout


def test_what_json_has_no_word_for_is_shown_by_its_repr(file: Any, registry: NodeRegistry):
    @registry.register
    class Odd(BaseNode[Any, Any]):
        node_type = "odd"

        async def execute(self, config: Any, context: Any) -> object:
            return {"set": {1}, "bytes": b"x", 3: float("nan"), "tuple": (1, None), "object": Odd, "lone": "\ud800"}

    path = file("name: odd\ntrigger: {type: manual}\nnodes: [{id: odd, type: odd}]\n")
    output = run_json(path)["outputs_by_id"]["odd"]
    streamed = pyflow("run", path, "--format", "ndjson")
    assert output["set"] == "{1}"
    assert output["bytes"] == "b'x'"
    assert output["3"] == "nan"
    assert output["tuple"] == [1, None]
    assert "Odd" in output["object"]
    assert output["lone"] == "\ud800"
    assert streamed.exit_code == 0, streamed.output


def test_text_cannot_command_the_terminal(file: Any):
    done = pyflow("run", file(FAILS.replace("no luck", r'"\e[2Jgone"')))
    assert "\x1b" not in done.output
    assert r"\x1b[2Jgone" in done.output


def test_secrets_come_from_the_environment_and_are_masked_everywhere(file: Any):
    text = FLOW.replace("{{ double }} for", "{{ secrets.TOKEN }} {{ double }} for")
    path = file(text)
    for format in ("text", "json", "ndjson"):
        done = pyflow(
            "run", path, "-i", "amount=1", "-v", "--format", format, env={"PYFLOW_SECRET_TOKEN": "sesame-open"}
        )
        assert done.exit_code == 0
        assert "sesame" not in done.output
        assert "*** 2 for you" in done.output


# --- mocks


def test_a_mocked_node_gives_what_its_file_holds(file: Any):
    mock = file("7", "double.yaml")
    result = run_json(file(FLOW), "-i", "amount=1", "--mock", f"double={mock}")
    assert result["outputs"] == {"total": 8}


def test_a_mocked_node_needs_no_node_type(file: Any):
    text = FLOW.replace("{id: double, type: template", "{id: double, type: not_written_yet")
    mock = file("7", "double.json")
    path = file(text)
    assert run_json(path, "-i", "amount=1", "--mock", f"double={mock}")["outputs"] == {"total": 8}
    assert pyflow("run", path, "-i", "amount=1").exit_code == 3


def test_an_unknown_type_is_refused_if_only_some_of_its_nodes_are_mocked(file: Any):
    text = FLOW.replace("type: template", "type: not_written_yet")
    done = pyflow("run", file(text), "-i", "amount=1", "--mock", f"double={file('7', 'double.json')}")
    assert done.exit_code == 3
    assert "Unknown node type: not_written_yet" in done.stderr


# --- parts of a workflow


def test_stop_at_runs_a_node_and_what_it_needs(file: Any):
    result = run_json(file(FLOW), "-i", "amount=1", "--stop-at", "greet")
    assert result["states"] == {"double": "succeeded", "total": "skipped", "greet": "succeeded"}


def test_from_goes_on_with_the_results_of_an_earlier_run(file: Any):
    path = file(FLOW)
    saved = pyflow("run", path, "-i", "amount=1", "--format", "json").stdout.replace('"output": 2', '"output": 100')
    results = file(saved, "results.json")
    result = run_json(path, "-i", "amount=1", "--from", "total", "--results", results)
    assert result["outputs"] == {"total": 101}
    assert result["outputs_by_id"]["greet"] == "2 for you"
    both = run_json(path, "-i", "amount=1", "--from", "double", "--stop-at", "double", "--results", results)
    assert both["outputs_by_id"]["double"] == 2


def test_from_the_beginning_needs_no_results(file: Any):
    assert run_json(file(FLOW), "-i", "amount=1", "--from", "double")["outputs"] == {"total": 3}


def test_from_names_the_nodes_whose_results_are_missing(file: Any):
    path = file(FLOW)
    done = pyflow("run", path, "-i", "amount=1", "--from", "total")
    assert done.exit_code == 2
    assert "double" in done.stderr
    assert "--results" in done.stderr
    failed = file('{"nodes": [{"id": "double", "state": "failed"}]}', "failed.json")
    done = pyflow("run", path, "-i", "amount=1", "--from", "total", "--results", failed)
    assert done.exit_code == 2
    assert "double (failed)" in done.stderr


def test_a_result_that_another_run_left_out_is_missing(file: Any):
    path = file(
        FLOW.replace(
            "id: greet, type: template, depends_on: [double]", "id: greet, type: template, depends_on: [total, double]"
        )
    )
    first = pyflow("run", path, "-i", "amount=1", "--stop-at", "double", "--format", "json").stdout
    done = pyflow("run", path, "-i", "amount=1", "--from", "greet", "--results", file(first, "r.json"))
    assert done.exit_code == 2
    assert "total (skipped)" in done.stderr


# --- dry run


def test_a_dry_run_reports_everything_and_runs_nothing(file: Any, tmp_path: Path):
    text = FLOW + "  - {id: save, type: storage, depends_on: [total], when: \"input['amount'] > 5\","
    text += f" config: {{path: {tmp_path / 'never.json'}, action: write, data: 1}}}}\n"
    done = pyflow("run", file(text), "-i", "amount=1", "--dry-run")
    assert done.exit_code == 0
    assert "Order: double, total, greet, save" in done.stdout
    assert "  2: total, greet" in done.stdout
    assert "Critical path: double -> total -> save" in done.stdout
    assert "  save: when is false" in done.stdout
    assert "    template: 2" in done.stdout
    assert not (tmp_path / "never.json").exists()
    report = json.loads(pyflow("run", file(text), "--dry-run", "--format", "json").stdout)
    assert report["levels"] == [["double"], ["total", "greet"], ["save"]]
    assert report["input_problems"][0]["detail"] == '"amount" is a required property'


def test_a_dry_run_of_a_part_reports_what_is_left_out(file: Any):
    results = file('{"nodes": [{"id": "double", "state": "succeeded", "output": 2}]}', "results.json")
    part = ["--from", "total", "--stop-at", "total", "--results", results]
    done = pyflow("run", file(FLOW), "-i", "amount=1", "--dry-run", *part)
    assert done.exit_code == 0
    assert "  double: its result is reused" in done.stdout
    assert "  greet: not selected" in done.stdout


def test_a_dry_run_with_something_unresolved_fails_only_when_strict(file: Any):
    path = file(V1.replace("{{ trigger }}", "{{ triger }}"))
    done = pyflow("run", path, "-i", "city=x", "--dry-run")
    assert done.exit_code == 0
    assert "nothing provides 'triger'" in done.stdout
    assert pyflow("run", path, "-i", "city=x", "--dry-run", "--strict").exit_code == 1


# --- a workflow from standard input


def piped(text: str, *args: str) -> Result:
    return CliRunner().invoke(app, args, input=text)


def test_a_workflow_is_read_from_standard_input():
    ran = piped(FLOW, "run", "-", "-i", "amount=4", "--format", "json")
    assert (ran.exit_code, json.loads(ran.stdout)["outputs"]) == (0, {"total": 9})
    assert piped(json.dumps({"version": 2, "name": "j", "nodes": []}), "validate", "-").stdout == "Valid: j (0 nodes)\n"
    assert piped(FLOW, "inspect", "-").exit_code == 0
    old = "name: old\ntrigger: {type: manual}\nnodes: [{id: a, type: log, config: {message: hello}}]\n"
    assert "version: 2" in piped(old, "convert", "-", "--to", "2").stdout


def test_what_is_wrong_with_standard_input_is_said_with_its_place():
    ran = piped(FLOW.replace("type: template, depends_on", "type: templat, depends_on", 1), "run", "-")
    assert (ran.exit_code, "standard input:8:" in ran.stderr, "'template'" in ran.stderr) == (3, True, True)
    assert piped("", "run", "-").exit_code == 1
    assert piped("x" * 1_100_000, "validate", "-").exit_code == 1


def test_standard_input_has_the_workflow_or_the_input():
    ran = piped(FLOW, "run", "-", "-i", "-")
    assert (ran.exit_code, "give the input as" in ran.stderr) == (2, True)

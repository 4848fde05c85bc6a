"""Whatever is given to a command: one clear message on standard error, the documented exit code, never a traceback."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app

FLOW = """
version: 2
name: flow
inputs: {n: {type: integer, default: 1}}
nodes:
  - {id: first, type: template, config: {template: "{{ input.n }}"}}
  - {id: second, type: template, depends_on: [first], config: {template: "{{ first }}"}}
finally: [{id: bye, type: log, config: {message: bye}}]
"""


def pyflow(*args: str, **options: Any) -> Result:
    done = CliRunner().invoke(app, list(args), **options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert "Traceback" not in done.output
    return done


def directory(path: Path) -> None:
    path.mkdir()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def nul(path: Path) -> None:
    path.write_bytes(b"name: x\0y\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_a_comment(path: Path) -> None:
    path.write_text("# nothing yet\n")


def wrong_yaml(path: Path) -> None:
    path.write_text("name: x\n  nodes: [\n")


def wrong_types(path: Path) -> None:
    path.write_text("name: [1]\ntrigger: 3\nnodes: {a: b}\n")


def five_megabytes(path: Path) -> None:
    path.write_text("name: x\n# " + "x" * (5 * 1024 * 1024))


def deep(path: Path) -> None:
    path.write_text("name: " + "[" * 100_000)


def bomb(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    path.write_text("\n".join(lines))


def tagged(path: Path) -> None:
    path.write_text("name: !!python/object/apply:os.system [id]\n")


def two_documents(path: Path) -> None:
    path.write_text("name: a\n---\nname: b\n")


def missing(path: Path) -> None:
    pass


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


UNREADABLE = [
    directory,
    binary,
    nul,
    empty,
    only_a_comment,
    wrong_yaml,
    wrong_types,
    five_megabytes,
    deep,
    bomb,
    tagged,
    two_documents,
    missing,
    dangling_link,
    link_to_itself,
]


@pytest.mark.parametrize("make", UNREADABLE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["run", "validate", "inspect", "run --dry-run"])
def test_a_file_that_is_no_workflow_exits_with_one(command: str, make: Callable[[Path], None], tmp_path: Path):
    path = tmp_path / "flow.yaml"
    make(path)
    done = pyflow(*command.split(), str(path))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "flow.yaml" in done.stderr
    assert len(done.stderr.splitlines()) < 12


@pytest.mark.parametrize("path", ["", ".", "/dev/null", "n" * 5000], ids=["empty", "dot", "null", "long"])
def test_a_path_that_is_none_exits_with_one(path: str):
    done = pyflow("run", path)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")


def test_a_file_without_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "secret.yaml"
    path.write_text(FLOW)
    opened = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        # The suite may run as root, whom no mode keeps out.
        if self.name == "secret.yaml":
            raise PermissionError(13, os.strerror(13), str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    done = pyflow("run", str(path))
    assert done.exit_code == 1
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    "make", [directory, binary, empty, wrong_yaml, five_megabytes, deep, missing], ids=lambda m: m.__name__
)
@pytest.mark.parametrize("option", ["--input=@{}", "--input=n=@{}", "--mock=first={}", "--results={}"])
def test_a_file_that_is_no_data_is_a_usage_error(option: str, make: Callable[[Path], None], tmp_path: Path):
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW)
    path = tmp_path / "data.yaml"
    make(path)
    extra = ["--from", "second"] if "results" in option else []
    done = pyflow("run", str(flow), option.format(path), *extra)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {option.partition('=')[0]}")
    assert "data.yaml" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "n"], "give KEY=VALUE"),
        (["--input", "=3"], "give KEY=VALUE"),
        (["--input", ""], "give KEY=VALUE"),
        (["--input", "n={"], "not valid JSON"),
        (["--input", "n=[1,"], "not valid JSON"),
        (["--input", "n=" + "[" * 100_000], "nested too deeply"),
        (["--input", "n=word"], 'not of type "integer"'),
        (["--mock", "first"], "give NODE=FILE"),
        (["--mock", "=x"], "give NODE=FILE"),
        (["--mock", "first="], "give NODE=FILE"),
        (["--mock", "frist=FILE"], "did you mean 'first'?"),
        (["--stop-at", "secnod"], "did you mean 'second'?"),
        (["--stop-at", ""], "there is no node ''"),
        (["--stop-at", "bye"], "is not in the section `nodes`"),
        (["--from", "nobody"], "there is no node 'nobody'"),
        (["--from", "second"], "first"),
        (["--results", "FILE"], "--from"),
        (["--from", "second", "--results", "FILE"], "is not what `pyflow run --format json` prints"),
        (["--from", "second", "--stop-at", "first"], "nothing to run"),
        (["--format", "xml"], "xml"),
        (["--colour"], "--colour"),
        (["another"], "another"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_an_option_that_makes_no_sense_is_a_usage_error(args: list[str], message: str, tmp_path: Path):
    flow, data = tmp_path / "flow.yaml", tmp_path / "data.json"
    flow.write_text(FLOW)
    data.write_text("[1, 2]")
    done = pyflow("run", str(flow), *(arg.replace("FILE", str(data)) for arg in args))
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("text", ["", "[1]", "word", "n: [", "n: 1\n---\nn: 2", "\0"])
def test_standard_input_that_is_no_mapping_is_a_usage_error(text: str, tmp_path: Path):
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW)
    done = pyflow("run", str(flow), "--input", "-", input=text)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: --input -: ")


@pytest.mark.parametrize(
    "saved",
    [
        '{"nodes": 3}',
        '{"nodes": [3]}',
        '{"nodes": [{"id": "first"}]}',
        '{"nodes": [{"id": "first", "state": "odd"}]}',
        "{}",
    ],
)
def test_results_that_are_none_are_a_usage_error(saved: str, tmp_path: Path):
    flow, results = tmp_path / "flow.yaml", tmp_path / "results.json"
    flow.write_text(FLOW)
    results.write_text(saved)
    done = pyflow("run", str(flow), "--from", "second", "--results", str(results))
    assert done.exit_code == 2
    assert "is not what `pyflow run --format json` prints" in done.stderr


@pytest.mark.parametrize("command", ["run", "validate", "inspect", "walk", "nodes http extra", "serve --port 99999"])
def test_a_command_that_is_not_there_or_lacks_something_is_a_usage_error(command: str):
    done = pyflow(*command.split())
    assert done.exit_code == 2
    assert "Error" in done.stderr


def test_list_names_the_files_that_are_no_workflows_and_lists_the_others(tmp_path: Path):
    (tmp_path / "good.yaml").write_text(FLOW)
    binary(tmp_path / "bad.yaml")
    done = pyflow("list", str(tmp_path))
    assert done.exit_code == 1
    assert done.stdout == "  flow [manual] (3 nodes)\n"
    assert "bad.yaml" in done.stderr
    assert pyflow("list", str(tmp_path / "good.yaml")).exit_code == 2


def test_serve_of_a_broken_directory_exits_with_one(tmp_path: Path):
    binary(tmp_path / "bad.yaml")
    done = pyflow("serve", str(tmp_path))
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")


def test_validate_reports_problems_as_json(tmp_path: Path):
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW.replace("type: log", "type: lgo").replace("{{ first }}", "{{ frist }}"))
    done = pyflow("validate", str(flow), "--format", "json")
    assert done.exit_code == 3
    verdict = json.loads(done.stdout)
    assert verdict["valid"] is False
    assert [(p["code"], p["line"], p["suggestion"]) for p in verdict["problems"]] == [
        ("unknown_name", 7, "first"),
        ("unknown_node_type", 8, "log"),
    ]
    flow.write_text(FLOW)
    done = pyflow("validate", str(flow), "--format", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "valid": True,
        "file": str(flow),
        "name": "flow",
        "version": 2,
        "nodes": 3,
        "problems": [],
    }


def test_list_passes_over_a_pipe_that_nobody_writes_to(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "flow.yaml").write_text("version: 2\nname: flow\nnodes: []\n")
    assert pyflow("list", str(tmp_path)).stdout == "  flow [manual] (0 nodes)\n"


def test_serve_leaves_out_the_files_that_are_no_workflows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    served: list[Any] = []
    monkeypatch.setattr("uvicorn.run", lambda *args, **kwargs: served.append(args))
    (tmp_path / "good.yaml").write_text(FLOW)
    (tmp_path / "bad.yaml").write_text("version: 2\nname: bad\ninputs: {ref: {type: [[string]]}}\nnodes: []\n")
    assert pyflow("serve", str(tmp_path)).exit_code == 0
    assert len(served) == 1
    [line] = caplog.messages
    assert line.startswith("This file is left out: bad.yaml: line 3, column 10: inputs.ref: ['string'] is not one of")


@pytest.mark.parametrize("command", ["validate", "inspect", "run --dry-run", "run -i ref=7", "run -i ref=seven"])
def test_an_input_of_several_types_is_an_ordinary_input(command: str, tmp_path: Path):
    flow = tmp_path / "flow.yaml"
    inputs = FLOW.replace("{n: {type: integer, default: 1}}", "{ref: {type: [string, integer]}}")
    flow.write_text(inputs.replace("input.n", "input.ref"))
    name, *options = command.split()
    done = pyflow(name, *(options if "--dry-run" not in options else [*options, "-i", "ref=1"]), str(flow))
    assert done.exit_code == 0, done.output

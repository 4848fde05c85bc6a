"""`pyflow diff`."""

import json
from pathlib import Path

import jsonpatch
import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app
from pyflow.validation.loader import load_workflow

ONE = "version: 2\nname: x\nnodes:\n  - {id: a, type: log, config: {message: hello}}\n"
TWO = ONE.replace("hello", "good bye") + "  - {id: b, type: log, config: {message: more}, depends_on: [a]}\n"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "two.yaml").write_text(TWO)
    return [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]


def pyflow(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["diff", *arguments])


def test_differences_are_listed(files):
    shown = pyflow(*files)
    assert (shown.exit_code, shown.stdout.splitlines()) == (
        0,
        ["+ node b (log)", "~ node a", '    ~ config/message: "hello" -> "good bye"', "+ edge a -> b"],
    )


def test_exit_code_reports_a_difference_if_asked_to(files):
    assert pyflow(*files, "--exit-code").exit_code == 1
    same = pyflow(files[0], files[0], "--exit-code")
    assert (same.exit_code, same.stdout) == (0, "No differences.\n")


def test_as_json(files):
    difference = json.loads(pyflow(*files, "--format", "json").stdout)
    assert difference["nodes"]["added"] == [{"id": "b", "type": "log", "section": "nodes"}]
    assert difference["identical"] is False


def test_as_a_json_patch(files):
    patch = json.loads(pyflow(*files, "--format", "json-patch").stdout)
    one, two = (load_workflow(Path(file)).canonical() for file in files)
    assert jsonpatch.JsonPatch(patch).apply(one) == two


def test_a_file_that_is_no_workflow_is_refused(files, tmp_path):
    (tmp_path / "broken.yaml").write_text("version: 2\nname: x\nnodes: 7\n")
    refused = pyflow(files[0], str(tmp_path / "broken.yaml"))
    assert refused.exit_code == 3
    assert "broken.yaml:3:1" in refused.stderr
    assert pyflow(files[0], str(tmp_path / "none.yaml")).exit_code == 1

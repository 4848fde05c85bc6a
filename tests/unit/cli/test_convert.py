"""`pyflow convert` and `pyflow validate --lint`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app
from pyflow.validation.loader import load_workflow

V1 = """\
name: flow
trigger: {type: manual}
owner: me
nodes:
  - {id: a, type: storage, config: {path: "{{ trigger.path }}"}, on_error: skip}
  - {id: b, type: condition, depends_on: [a], config: {if: yes}}
"""
V2 = """\
version: 2
name: flow
nodes:
  - {id: a, type: http, config: {url: "{{ secrets.URL }}"}, for_each: [1, 2]}
"""


def pyflow(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    path = tmp_path / "v1.yaml"
    path.write_text(V1)
    return path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    path = tmp_path / "v2.yaml"
    path.write_text(V2)
    return path


def test_the_result_goes_to_standard_output_and_the_notes_to_standard_error(v1: Path, tmp_path: Path):
    done = pyflow("convert", v1, "--to", "2")
    assert done.exit_code == 0
    (tmp_path / "out.yaml").write_text(done.stdout)
    assert load_workflow(tmp_path / "out.yaml").version == 2
    assert f"{v1}:3:1: v1 ignored the key 'owner'" in done.stderr
    assert done.stderr.splitlines()[-1] == "flow: version 2, 2 nodes; notes: 1 changed, 1 dropped, 3 kept"
    assert pyflow("validate", tmp_path / "out.yaml").exit_code == 0


def test_a_file_is_written_once_unless_forced(v1: Path, tmp_path: Path):
    out = tmp_path / "out.yaml"
    assert pyflow("convert", v1, "-o", out).exit_code == 0
    first = out.read_text()
    again = pyflow("convert", v1, "-o", out)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "--force" in again.stderr
    out.write_text("something else")
    assert pyflow("convert", v1, "-o", out, "--force").exit_code == 0
    assert out.read_text() == first
    lost = pyflow("convert", v1, "-o", tmp_path / "no" / "where.yaml")
    assert (lost.exit_code, "cannot be written" in lost.stderr) == (1, True)


def test_check_prints_only_the_notes(v1: Path, tmp_path: Path):
    done = pyflow("convert", v1, "--check", "-o", tmp_path / "out.yaml")
    assert done.exit_code == 0
    assert "version: 2" not in done.stdout
    assert "notes:" in done.stdout
    assert not (tmp_path / "out.yaml").exists()


def test_json_has_the_notes_and_the_text(v1: Path):
    answer = json.loads(pyflow("convert", v1, "--format", "json").stdout)
    assert answer["converted"] is True
    assert answer["text"].startswith("version: 2\n")
    dropped = [note for note in answer["notes"] if note["kind"] == "dropped"]
    assert dropped == [
        {
            "code": "unknown_key",
            "kind": "dropped",
            "detail": "v1 ignored the key 'owner'",
            "pointer": "/owner",
            "line": 3,
            "column": 1,
        }
    ]
    assert "text" not in json.loads(pyflow("convert", v1, "--check", "--format", "json").stdout)


def test_what_is_no_v1_workflow_is_refused(v1: Path, v2: Path, tmp_path: Path):
    already = pyflow("convert", v2)
    assert (already.exit_code, "already" in already.stderr) == (1, True)
    missing = pyflow("convert", tmp_path / "nothing.yaml")
    assert (missing.exit_code, "no such file" in missing.stderr) == (1, True)
    v1.write_text(V1.replace("type: storage", "type: nothing"))
    refused = pyflow("convert", v1)
    assert (refused.exit_code, f"{v1}:5:13: Unknown node type: nothing" in refused.stderr) == (1, True)
    problem = json.loads(pyflow("convert", v1, "--format", "json").stdout)["problems"][0]
    assert (problem["code"], problem["line"]) == ("unknown_node_type", 5)


def test_lint_warns_and_lists_secrets_and_only_strict_minds(v2: Path):
    assert pyflow("validate", v2).stdout == "Valid: flow (1 nodes)\n"
    done = pyflow("validate", v2, "--lint")
    assert done.exit_code == 0
    assert f"{v2}:4:61: 'a' sends up to 50 requests at a time" in done.stdout
    assert "[unlimited_fan_out]" in done.stdout
    assert done.stdout.endswith("Secrets: URL\n")
    assert pyflow("validate", v2, "--strict").exit_code == 1
    v2.write_text(V2.replace("type: http", "type: http, max_parallel: 5"))
    assert pyflow("validate", v2, "--strict").exit_code == 0


def test_lint_as_json(v2: Path):
    plain = json.loads(pyflow("validate", v2, "--format", "json").stdout)
    assert "warnings" not in plain
    verdict = json.loads(pyflow("validate", v2, "--lint", "--format", "json").stdout)
    assert verdict["valid"] is True
    assert verdict["secrets"] == ["URL"]
    warning = verdict["warnings"][0]
    assert (warning["code"], warning["pointer"], warning["line"], warning["column"]) == (
        "unlimited_fan_out",
        "/nodes/0/for_each",
        4,
        61,
    )

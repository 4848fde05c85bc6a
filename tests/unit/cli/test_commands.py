"""`pyflow inspect`, `nodes`, `schema` and `doctor`."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pyflow.cli import app

DIAMOND = """
version: 2
name: diamond
nodes:
  - {id: top, type: template, config: {template: 1}}
  - {id: left, type: template, depends_on: [top], config: {template: 1}}
  - {id: right, type: template, depends_on: [top], when: "top > 1", config: {template: 1}}
  - {id: bottom, type: template, depends_on: [left, right], run_if: all_done, config: {template: 1}}
finally:
  - {id: bye, type: log, config: {message: bye}}
"""


def pyflow(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(args), **options)


@pytest.fixture
def diamond(tmp_path: Path) -> str:
    path = tmp_path / "diamond.yaml"
    path.write_text(DIAMOND)
    return str(path)


def test_a_tree_shows_each_node_once(diamond: str):
    assert pyflow("inspect", diamond).stdout.splitlines() == [
        "diamond [manual] (5 nodes)",
        "  top (template)",
        "    left (template)",
        "      bottom (template) [run_if all_done] (also after right)",
        "    right (template) [when top > 1]",
        "finally:",
        "  bye (log)",
    ]


def test_a_graph_as_data_has_nodes_edges_levels_and_the_critical_path(diamond: str):
    graph = json.loads(pyflow("inspect", diamond, "--format", "json").stdout)
    assert [node["id"] for node in graph["nodes"]] == ["top", "left", "right", "bottom", "bye"]
    assert {"from": "left", "to": "bottom"} in graph["edges"]
    assert graph["levels"] == [["top"], ["left", "right"], ["bottom"]]
    assert graph["critical_path"] == ["top", "left", "bottom"]
    assert graph["nodes"][4]["section"] == "finally"


def test_mermaid_draws_every_node_and_edge(diamond: str):
    lines = pyflow("inspect", diamond, "--format", "mermaid").stdout.splitlines()
    assert lines[0] == "flowchart TD"
    assert '  n0["top<br/>template"]' in lines
    assert '  n2{"right<br/>template"}' in lines
    assert [line for line in lines if "-->" in line] == [
        "  n0 --> n1",
        "  n0 --> n2",
        "  n1 --> n3",
        "  n2 --> n3",
    ]
    assert "  subgraph finally" in lines


def test_labels_cannot_leave_their_quotes(tmp_path: Path):
    path = tmp_path / "odd.yaml"
    # v1 lets a node id be any text.
    name = json.dumps('a"] --> evil; <script>&#x\\')
    path.write_text(f"name: {name}\ntrigger: {{type: manual}}\nnodes: [{{id: {name}, type: condition}}]\n")
    mermaid = pyflow("inspect", str(path), "--format", "mermaid").stdout
    assert '  n0["a#quot;] --#gt; evil#59; #lt;script#gt;#amp;#35;x\\<br/>condition"]' in mermaid
    dot = pyflow("inspect", str(path), "--format", "dot").stdout
    assert r'  n0 [label="a\"] --> evil; <script>&#x\\\ncondition"];' in dot
    assert dot.startswith(r'digraph "a\"] --> evil; <script>&#x\\" {')


def test_a_chain_longer_than_the_stack_is_drawn_and_planned(tmp_path: Path):
    path = tmp_path / "long.yaml"
    nodes = ["  - {id: n0, type: log}"]
    nodes += [f"  - {{id: n{i}, type: log, depends_on: [n{i - 1}]}}" for i in range(1, 3000)]
    path.write_text("name: long\ntrigger: {type: manual}\nnodes:\n" + "\n".join(nodes) + "\n")
    lines = pyflow("inspect", str(path)).stdout.splitlines()
    assert len(lines) == 3001
    assert lines[-1].strip() == "[level 3000] n2999 (log)"
    plan = json.loads(pyflow("run", str(path), "--dry-run", "--format", "json").stdout)
    assert len(plan["critical_path"]) == 3000


def test_nodes_lists_the_catalogue():
    lines = pyflow("nodes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    assert {"http", "transform", "condition", "alert", "storage"} <= {line.split()[0] for line in lines}
    entries = json.loads(pyflow("nodes", "--format", "json").stdout)
    assert {"type", "category", "description", "version", "config", "output", "example"} <= entries[0].keys()


def test_nodes_shows_one_type_in_full():
    text = pyflow("nodes", "http").stdout
    assert text.startswith("http (network, version ")
    assert "  url (string, required)" in text
    assert "Example:" in text
    assert json.loads(pyflow("nodes", "http", "--format", "json").stdout)["type"] == "http"
    unknown = pyflow("nodes", "htttp")
    assert unknown.exit_code == 2
    assert unknown.stderr == "Error: Unknown node type: htttp (did you mean 'http'?)\n"


def test_every_built_in_type_can_be_shown():
    for entry in json.loads(pyflow("nodes", "--format", "json").stdout):
        shown = pyflow("nodes", entry["type"])
        assert shown.exit_code == 0, shown.output
        assert entry["description"].splitlines()[0] in shown.stdout


def test_the_schema_describes_workflow_files():
    schema = json.loads(pyflow("schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"name", "nodes", "finally"} <= schema["properties"].keys()


def test_doctor_finds_everything_that_is_needed(tmp_path: Path):
    done = pyflow(
        "doctor", env={"PYFLOW_STORAGE_ROOT": str(tmp_path / "store"), "DATABASE_URL": None, "REDIS_URL": None}
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "All required parts work."
    assert (tmp_path / "store").is_dir()


def test_doctor_reports_what_is_broken_without_passwords(tmp_path: Path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    done = pyflow(
        "doctor",
        "--format",
        "json",
        env={
            "PYFLOW_STORAGE_ROOT": str(in_the_way / "store"),
            "DATABASE_URL": f"postgresql://ada:sesame-open@127.0.0.1:{closed}/pyflow",
            "REDIS_URL": f"redis://:sesame-open@127.0.0.1:{closed}/0",
        },
    )
    assert done.exit_code == 1
    assert "sesame" not in done.output
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert states["storage"] == states["database"] == states["redis"] == "broken"
    assert states["python"] == "ok"


@pytest.mark.parametrize("url", ["postgresql://[", "redis", "mysql://127.0.0.1:1/x", "odd://"])
def test_doctor_survives_an_address_that_is_none(url: str):
    done = pyflow("doctor", env={"DATABASE_URL": url, "REDIS_URL": url, "PYFLOW_STORAGE_ROOT": None})
    assert done.exit_code == 1
    assert "cannot be reached" in done.stdout


def test_doctor_looks_at_a_sqlite_file(tmp_path: Path):
    done = pyflow("doctor", env={"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "REDIS_URL": None})
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/db.sqlite3 is writable" in done.stdout


@pytest.mark.fleet
def test_doctor_reaches_a_real_database_and_a_real_redis():
    done = pyflow("doctor")
    assert done.exit_code == 0, done.output
    assert "answers: PostgreSQL" in done.stdout
    assert "answers: Redis" in done.stdout

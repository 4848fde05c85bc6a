"""Plugins outside the platform: a distribution with entry points, installed beside PyFlow."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pyflow.nodes import installed_types, plugins
from pyflow.testing import run_workflow
from pyflow.validation.checker import check_workflow
from tests.support.factories.plugins import WRONG
from tests.support.factories.stage import node, workflow

FLOW = "version: 2\nname: loud\noutputs: {said: '{{ a }}'}\nnodes: [{id: a, type: shout, config: {text: hi}}]\n"
MODULE = "from tests.support.factories.plugins import *\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution: a right plugin and a broken one."""
    folder = tmp_path / "site"
    info = folder / "loud-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[pyflow.nodes]\nshout = loud:Shout\nodd = loud:BadSignature\ngone = loud:x\n"
    )
    (folder / "loud.py").write_text(MODULE)
    (tmp_path / "loud.yaml").write_text(FLOW)
    return folder


def pyflow(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(Path.cwd())])
    code = "from pyflow.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )


def test_every_command_knows_the_types_of_plugins(site: Path, tmp_path: Path):
    flow = str(tmp_path / "loud.yaml")
    for command in ("validate", "inspect"):
        done = pyflow(site, command, flow)
        assert (done.returncode, done.stderr) == (0, "")
    done = pyflow(site, "run", flow, "--format", "json")
    assert json.loads(done.stdout)["outputs"] == {"said": "HI"}
    done = pyflow(site, "nodes")
    assert done.returncode == 0
    assert "shout" in done.stdout
    gone, odd = done.stderr.splitlines()
    assert gone == "Broken plugin gone (loud 1.2): AttributeError: module 'loud' has no attribute 'x'"
    assert odd.startswith(f"Broken plugin odd (loud 1.2): TypeError: BadSignature.run {WRONG['BadSignature']}")
    done = pyflow(site, "doctor", "--format", "json")
    states = {finding["name"]: finding["state"] for finding in json.loads(done.stdout)["findings"]}
    assert (states["plugin shout"], states["plugin odd"], states["plugin gone"]) == ("ok", "broken", "broken")


async def test_the_testing_kit_knows_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "entry_points", lambda group: points("Shout"))
    monkeypatch.setattr("pyflow.testing.runs.default_registry", installed_types())
    assert (await run_workflow(FLOW)).outputs == {"said": "HI"}


def points(*names: str) -> list[metadata.EntryPoint]:
    return [metadata.EntryPoint(name, f"tests.support.factories.plugins:{name}", plugins.GROUP) for name in names]


@pytest.mark.parametrize("name", WRONG)
def test_a_plugin_that_cannot_be_used_says_why_and_disables_only_itself(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "entry_points", lambda group: points(name, "Shout"))
    registry = installed_types()
    errors = {plugin.name: plugin.error for plugin in registry.plugins()}
    assert WRONG[name] in errors[name]
    assert errors["Shout"] == ""
    assert "shout" in registry
    if name == "Taken":
        assert registry.broken == {}  # the type is there
        return
    [(broken, why)] = registry.broken.items()
    assert WRONG[name] in why
    with pytest.raises(KeyError, match=f"that provides the node type '{broken}' could not be loaded: "):
        registry.copy().get(broken)
    [problem] = check_workflow(workflow(node("a", broken)), registry)
    assert (problem.pointer, WRONG[name] in problem.message) == ("/nodes/0/type", True)


def test_plugins_are_looked_for_once_and_only_when_a_type_is_not_built_in(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: asked.append(group) or points("Shout"))
    registry = installed_types()
    assert "log" in registry
    assert registry.get("http").node_type == "http"
    assert asked == []
    assert registry.get("shout").node_type == "shout"
    assert "shout" in registry.list_types()
    assert "shout" in registry.copy()
    with pytest.raises(KeyError, match="Unknown node type: nothing"):
        registry.get("nothing")
    assert asked == [plugins.GROUP]

"""What starting the command line loads: nothing that the command does not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Runs the console script with the arguments that follow, then names the modules that are loaded on standard error.
TELLING = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from pyflow.cli import main
main()
"""
SMALL = """
name: small
trigger: {type: manual}
nodes:
  - {id: hello, type: log, config: {message: "{{ __workflow__ }}"}}
  - {id: big, type: condition, config: {if: "1 > 0"}, depends_on: [hello]}
"""
PLUGIN = """
class Plugin:
    def new_schema_validator(self, *args):
        return None, None, None

plugin = Plugin()
"""
#: What only some node types, options or other commands need.
HEAVY = {
    "httpx", "httpx2", "httpcore2", "sqlalchemy", "psycopg", "pymysql", "jsonpath_ng", "jsonschema_rs", "rich",
    "uvicorn", "apscheduler", "structlog", "opentelemetry", "django", "pytest", "pyflow.net.http_client",
    "pyflow.upgrade.convert", "pyflow.execution.dry_run", "pyflow.validation.lint.rules", "pyflow.testing",
    "pyflow.server",
    "pyflow.cli.catalogue", "pyflow.cli.convert", "pyflow.cli.definitions", "pyflow.cli.diagnosis", "pyflow.cli.live",
    "pyflow.cli.rehearsal", "pyflow.cli.remote", "pyflow.cli.service", "pyflow_client", "stamina",
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def start(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    return subprocess.run(
        [sys.executable, "-c", TELLING, *map(str, args)], capture_output=True, text=True, env=kept | environment
    )


def loaded(*args: object) -> set[str]:
    done = start(*args)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_running_a_small_file_loads_nothing_that_it_does_not_need(small: Path):
    modules = loaded("run", small)
    assert modules >= {"pyflow.execution.execution", "pyflow.nodes.log"}
    assert modules & HEAVY == set()


def test_a_dry_run_and_mocks_load_what_they_need(small: Path, tmp_path: Path):
    mock = tmp_path / "mock.json"
    mock.write_text("{}")
    assert loaded("run", small, "--dry-run") & HEAVY == {"pyflow.execution.dry_run", "pyflow.cli.rehearsal"}
    assert "pyflow.testing" in loaded("run", small, "--mock", f"hello={mock}")


def test_each_command_loads_its_own_module(small: Path):
    commands = {name for name in HEAVY if name.startswith("pyflow.cli.")}
    assert loaded("validate", small) & commands == {"pyflow.cli.definitions"}
    assert loaded("nodes") & commands == {"pyflow.cli.catalogue"}


def test_an_unknown_command_is_refused():
    done = start("runn")
    assert done.returncode == 2
    assert "No such command 'runn'" in done.stderr
    assert loaded("--help") >= {"pyflow.cli.run", "pyflow.cli.convert", "pyflow.cli.diagnosis"}


def test_the_engine_is_used_without_reading_the_metadata_of_packages():
    code = "import sys, pyflow, pyflow.nodes; assert '__version__' not in vars(pyflow); print(pyflow.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:2]) == (0, "2."), done.stderr


def test_a_process_for_one_node_loads_nothing_that_plans_runs():
    code = "import sys, pyflow.isolation.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unneeded = {
        "pyflow.execution.plan",
        "pyflow.documents.models",
        "pyflow.expressions.template",
        "jinja2",
        "yaml",
        "typer",
        "httpx2",
    }
    assert set(done.stdout.split()) & unneeded == set()


def test_garbage_is_looked_for_once_everything_is_imported(small: Path):
    telling = "import atexit, gc, sys; atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000))"
    code = f"{telling}; from pyflow.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "run", small], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True True", done.stderr


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    """A folder in which a plugin of pydantic is installed."""
    packages = tmp_path / "packages"
    metadata = packages / "observer-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: observer\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pydantic]\nobserver = validation_observer:plugin\n")
    (packages / "validation_observer.py").write_text(PLUGIN)
    return str(packages)


@pytest.mark.parametrize(
    ("command", "variables", "found"),
    [
        ("run", {}, False),
        ("run", {"PYDANTIC_DISABLE_PLUGINS": ""}, True),
        ("validate", {}, False),
        ("serve", {}, True),
    ],
)
def test_plugins_of_pydantic_are_looked_for_where_they_are_of_use(
    small: Path, plugin: str, command: str, variables: dict[str, str], found: bool
):
    folder = small.parent / "broken"
    folder.mkdir()
    (folder / "broken.yaml").write_text("nodes: none")  # the server's modules are loaded, and it ends
    done = start(command, folder if command == "serve" else small, PYTHONPATH=plugin, **variables)
    assert "pyflow.documents.models" in done.stderr
    assert ("validation_observer" in done.stderr.split()) is found

"""Output that cannot be written: one line or silence, the documented exit code, and the run goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
version: 2
name: ok
nodes:
  - {id: a, type: log, config: {message: hi}}
  - {id: b, type: storage, depends_on: [a], config: {action: write, path: PATH, data: 1}}
"""
NO_SPACE = "Error: standard output cannot be written: No space left on device"
COMMANDS = ["run FILE", "run FILE --format ndjson", "validate FILE", "list .", "--help", "--version"]


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "ok.yaml"
    path.write_text(FLOW.replace("PATH", str(tmp_path / "written.json")))
    return path


def shell(command: str, flow: Path, streams: str) -> subprocess.CompletedProcess[str]:
    """The command with its streams led elsewhere by a shell."""
    call = f"{sys.executable} -W default -c 'from pyflow.cli import main; main()' {command.replace('FILE', str(flow))}"
    return subprocess.run(["bash", "-c", f"{call} {streams}"], capture_output=True, text=True, cwd=flow.parent)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("  +")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_exit_code_one(command: str, flow: Path):
    done = shell(command, flow, "> /dev/full")
    assert (done.returncode, told(done)) == (1, [NO_SPACE])


@pytest.mark.parametrize(
    "streams", [">&-", "| true; exit ${PIPESTATUS[0]}", "> /dev/null 2>&-", "> /dev/null 2> /dev/full"]
)
@pytest.mark.parametrize("command", ["run FILE -v", "validate FILE", "--help"])
def test_closed_streams_and_pipes_that_ended_are_silence(command: str, streams: str, flow: Path):
    done = shell(command, flow, streams)
    assert (done.returncode, told(done)) == (0, [])


@pytest.mark.parametrize("streams", ["> /dev/full", ">&-", "| true; exit ${PIPESTATUS[0]}"])
def test_a_run_goes_on_when_nobody_reads_of_it(streams: str, flow: Path):
    shell("run FILE --format ndjson", flow, streams)
    assert (flow.parent / "written.json").exists()


@pytest.mark.parametrize("streams", ["> /dev/full", ">&- 2>&-", "2> /dev/full"])
def test_another_exit_code_stays(streams: str, flow: Path):
    flow.write_text("version: 2\nname: ok\nnodes: 3\n")
    assert shell("run FILE", flow, streams).returncode == 3
    assert shell("nofile", flow, streams).returncode == 2

"""The command as a process: signals, pipes and terminals."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from pyflow.cli import main; main()"]
FLOW = """
version: 2
name: flow
nodes:
  - {id: first, type: template, config: {template: done}}
  - {id: refused, type: fail, on_error: skip, depends_on: [first], config: {message: no}}
  - {id: left_out, type: log, when: "1 > 2", config: {message: x}}
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    return path


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def waiting(tmp_path: Path, silent_server: int) -> Path:
    """A workflow whose second node waits until somebody cancels it."""
    path = tmp_path / "waiting.yaml"
    path.write_text(f"""
version: 2
name: waiting
nodes:
  - {{id: first, type: template, config: {{template: done}}}}
  - id: wait
    type: http
    depends_on: [first]
    config: {{url: "http://127.0.0.1:{silent_server}/", timeout: 60, allow_private_networks: true}}
  - {{id: after, type: log, depends_on: [wait], config: {{message: never}}}}
finally:
  - {{id: bye, type: storage, config: {{path: "{tmp_path}/bye.json", action: write, data: "{{{{ run.state }}}}"}}}}
""")
    return path


def environment(**more: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return {**plain, "TERM": "xterm", **more}


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def read_until(stream: object, text: str) -> str:
    seen = ""
    while text not in seen:
        line = stream.readline()  # type: ignore[attr-defined]
        assert line, f"ended without {text!r}: {seen}"
        seen += line
    return seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_cancels_the_run_runs_finally_and_reports_the_result(
    number: signal.Signals, code: int, waiting: Path, tmp_path: Path
):
    with start("run", str(waiting), "--verbose") as process:
        read_until(process.stderr, "wait: started")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    lines = out.splitlines()
    assert lines[0] == "Running workflow: waiting"
    assert lines[1].startswith("Cancelled. Run ID: ")
    assert "  first: OK" in lines
    assert "  wait: CANCELLED" in lines
    assert "  bye: OK" in lines
    assert json.loads((tmp_path / "bye.json").read_text()) == "cancelled"
    assert "Cancelling the run" in err
    assert "Traceback" not in err


def test_an_interrupted_run_is_whole_as_json(waiting: Path):
    with start("run", str(waiting), "--format", "ndjson") as process:
        read_until(process.stdout, '"node.started", "at"')
        read_until(process.stdout, '"node_id": "wait"')
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["state"] == "cancelled"


def test_a_second_interrupt_leaves_at_once_even_if_a_node_blocks_a_thread(tmp_path: Path):
    (tmp_path / "flow.yaml").write_text("version: 2\nname: blocked\nnodes: [{id: nap, type: nap}]\n")
    (tmp_path / "main.py").write_text("""
import time
from pydantic import BaseModel
from pyflow.cli import main
from pyflow.nodes import default_registry
from pyflow_sdk import BaseNodeV2

@default_registry.register
class Nap(BaseNodeV2):
    node_type = "nap"

    class Config(BaseModel):
        pass

    def run(self, config, ctx):
        time.sleep(600)

main()
""")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), "run", str(tmp_path / "flow.yaml"), "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        read_until(process.stderr, "nap: started")
        process.send_signal(signal.SIGINT)
        assert "Cancelled. Run ID: " in read_until(process.stdout, "nap: CANCELLED")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_pipe_gets_plain_lines(flow: Path):
    done = subprocess.run([*COMMAND, "run", str(flow)], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2:] == ["  first: OK", "  refused: ERROR — no", "  left_out: SKIPPED"]
    assert "\x1b" not in done.stdout


def test_a_terminal_gets_live_progress_and_coloured_verdicts_of_the_same_text(waiting: Path):
    raw = in_terminal("run", str(waiting), interrupt_at="wait")
    assert "\x1b[" in raw
    assert "nodes done" in raw
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert "  first: OK" in text
    assert "  wait: CANCELLED" in text
    assert "\x1b[32mOK" in raw


def test_a_dumb_terminal_and_no_color_are_respected(flow: Path):
    assert "\x1b" not in in_terminal("run", str(flow), TERM="dumb")
    without_colour = in_terminal("run", str(flow), NO_COLOR="1")
    assert "\x1b[32m" not in without_colour
    assert "  first: OK" in without_colour


def in_terminal(*args: str, interrupt_at: str | None = None, **variables: str) -> str:
    """What the command writes to a pseudo-terminal; with `interrupt_at`, Ctrl-C is typed once that text shows."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *args], stdin=child, stdout=child, stderr=child, env=environment(**variables), start_new_session=True
    ) as process:
        os.close(child)
        written = b""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if not select.select([parent], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            written += chunk
            if interrupt_at is not None and f"  {interrupt_at}  ".encode() in written:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
        process.wait(timeout=30)
    os.close(parent)
    return written.decode()


def test_a_reader_that_leaves_early_is_no_traceback(tmp_path: Path):
    nodes = "\n".join(f"  - {{id: n{i}, type: template, config: {{template: {'x' * 500}}}}}" for i in range(2000))
    path = tmp_path / "large.yaml"
    path.write_text(f"version: 2\nname: large\nnodes:\n{nodes}\n")
    with start("run", str(path), "--format", "ndjson") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_old_terminal_encoding_loses_characters_and_nothing_else(encoding: str, flow: Path):
    done = subprocess.run(
        [*COMMAND, "run", str(flow)],
        capture_output=True,
        env=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0"),
    )
    assert done.returncode == 0, done.stderr
    assert b"refused: ERROR \\u2014 no" in done.stdout


def test_the_version_and_the_completion_script_are_printed():
    version = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, env=environment())
    assert re.fullmatch(r"pyflow \d+\.\d+\S*\n", version.stdout)
    script = subprocess.run([*COMMAND], capture_output=True, text=True, env=environment(_PYFLOW_COMPLETE="source_bash"))
    assert "_PYFLOW_COMPLETE=complete_bash" in script.stdout


LOADED = """
import sys
from pyflow.cli import app
try:
    app(["run", sys.argv[1]])
finally:
    slow = ("rich", "uvicorn", "httpx2", "jsonpath_ng", "jsonschema_rs", "structlog", "django")
    print([name for name in slow if name in sys.modules])
"""


def test_a_run_imports_nothing_slow_that_it_does_not_need(flow: Path):
    done = subprocess.run([sys.executable, "-c", LOADED, str(flow)], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[-1] == "[]", done.stderr

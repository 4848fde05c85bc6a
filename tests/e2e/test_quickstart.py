"""`make run`, driven from outside as its reader would: a fresh home, a free port, the printed command pasted."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from pyflow.isolation.parent import end_with_parent
from pyflow_client import Client
from pyflow_site.processes import port_of
from tests.repo_shape.tree import ROOT
from tests.support import waiting
from tests.support.servers.launcher import free_port as free_loopback_port

pytestmark = pytest.mark.e2e
LAST_LINE = "Ctrl-C stops the server."
SECONDS = 60


class Quickstart:
    """A running `python -m pyflow_site.quickstart` and what it has printed so far."""

    def __init__(self, home: Path, port: int, **more: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in {"DATABASE_URL", "REDIS_URL"}}
        self._printed: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyflow_site.quickstart"],
            cwd=ROOT,
            env=environment | {"PYFLOW_HOME": str(home), "PYFLOW_PORT": str(port)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self._printed)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._printed.extend(self.process.stdout)

    def wait_for(self, text: str) -> None:
        waiting.until(lambda: text in self.output or self.process.poll() is not None, SECONDS, f"{text!r} printed")
        assert text in self.output, self.output

    def finish(self) -> int:
        """Wait for its end, and that of its children: they hold the other end of the pipe."""
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert not self._reader.is_alive(), "a child outlived its parent"
        return status


@contextmanager
def quickstart(home: Path, port: int, **more: str) -> Iterator[Quickstart]:
    running = Quickstart(home, port, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.finish()
        assert running.process.stdout is not None
        running.process.stdout.close()


def processes_on(port: int) -> list[str]:
    """Command lines of the servers that were started for a port."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "daphne" in words and str(port) in words:
            lines.append(" ".join(words))
    return lines


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first") / "a home"  # paths with spaces are pasted, too


@pytest.fixture(scope="module")
def first_output(first_home: Path) -> str:
    """What a first start printed, from the first line to the last; it was ended by SIGTERM."""
    port = free_loopback_port()
    with quickstart(first_home, port) as running:
        running.wait_for(LAST_LINE)
        check_that_a_second_start_is_refused(running, first_home, port)
        with following(running.output) as stream:
            assert (stream.readline() or "").startswith("retry: ")
            started = json.loads(paste(running.output))
            while '"run.queued"' not in (line := stream.readline()):
                assert line
            assert started["id"] in line
        with Client(f"http://127.0.0.1:{port}", (first_home / "first-api-key").read_text().strip()) as client:
            assert client.wait(started["id"], 20).outputs["revenue"] == 824.64
        running.process.terminate()
        assert running.finish() == 0
    assert processes_on(port) == []
    return running.output.replace(str(port), "PORT")


#: A command that is printed, over several lines.
COMMAND = r"^curl (?:.*\\\n)*.*$"


@contextmanager
def following(shown: str) -> Iterator[IO[str]]:
    """The output of the printed command that streams, line by line, while it runs."""
    _, command = re.findall(COMMAND, shown, re.MULTILINE)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"], cwd="/", stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def paste(shown: str) -> str:
    """What the printed command prints in a shell, anywhere."""
    command, _ = re.findall(COMMAND, shown, re.MULTILINE)
    done = subprocess.run(["/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def check_that_a_second_start_is_refused(first: Quickstart, home: Path, port: int) -> None:
    with quickstart(home, port) as second:
        assert second.finish() == 1
    assert second.output == (
        f"Error: PyFlow runs at http://127.0.0.1:{port}/ as process {first.process.pid}, from {home}. "
        "Stop it, or start another with PYFLOW_HOME=… and --port ….\n"
    )
    with quickstart(home.with_name("other"), port) as third:
        assert third.finish() == 1
    assert third.output.startswith(f"Error: port {port} is in use")
    assert len(third.output.splitlines()) == 1


def test_a_first_start_follows_the_example_to_its_result(first_output: str):
    events = re.findall(r"^ +\d+\.\d{3} s  (\S+)", first_output, re.MULTILINE)
    assert events[:2] == ["run.queued", "run.started"]
    assert events[-1] == "run.succeeded"
    assert re.search(r"node\.succeeded +save\n", first_output)
    assert '"revenue": 824.64' in first_output
    assert first_output.rstrip().endswith("Stopped.")
    assert "Traceback" not in first_output


def test_a_first_start_says_where_everything_is(first_output: str):
    for path in ("api/docs/", "api/docs/redoc", "admin/", "api/v1/health/ready"):
        assert f"http://127.0.0.1:PORT/{path}" in first_output


def test_a_first_start_shows_its_secrets_once_and_keeps_them_private(first_home: Path, first_output: str):
    key = (first_home / "first-api-key").read_text().strip()
    password = (first_home / "admin-password").read_text().strip()
    assert first_output.count(key) == first_output.count(password) == 1
    assert f"API key   {key} (kept in {first_home / 'first-api-key'})" in first_output
    assert f"user admin, password {password} (kept in {first_home / 'admin-password'})" in first_output
    for name in ("first-api-key", "admin-password", "secret-key"):
        assert stat.S_IMODE((first_home / name).stat().st_mode) == 0o600


def test_a_second_start_goes_on_with_what_is_there_whatever_the_shell_says(
    tmp_path: Path, free_port: int, first_home: Path, first_output: str
):
    home = tmp_path / "home"
    shutil.copytree(first_home, home)
    fleet = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
    shell = {"HTTP_PROXY": "http://127.0.0.1:1", "PYFLOW_ENV": "production", "PYFLOW_ALLOWED_HOSTS": "pyflow.example"}
    with quickstart(home, free_port, **fleet, **shell) as running:
        running.wait_for(LAST_LINE)
        assert "workflow order-report, version 1" in running.output
        assert '"revenue": 824.64' in running.output
        key = (home / "first-api-key").read_text()
        assert key == (first_home / "first-api-key").read_text()
        assert key.strip() not in running.output
        assert f"API key   in {home / 'first-api-key'}" in running.output
        assert paste(running.output)
        # The server is killed: that is not left unnoticed.
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert running.finish() == 1
    assert "Error: the server ended by itself (exit status -9)." in running.output


def test_a_key_that_no_longer_works_is_replaced_and_the_server_dies_with_its_parent(
    tmp_path: Path, free_port: int, first_home: Path, first_output: str
):
    home = tmp_path / "home"
    shutil.copytree(first_home, home)
    (home / "first-api-key").write_text("pyf_live_nonsense\n")
    with quickstart(home, free_port) as running:
        running.wait_for(LAST_LINE)
        assert f"API key   {(home / 'first-api-key').read_text().strip()} (kept in" in running.output
        assert len(processes_on(free_port)) == 1
        running.process.kill()
        assert running.finish() == -signal.SIGKILL
    assert processes_on(free_port) == []


def test_a_port_that_is_none_is_refused(tmp_path: Path, free_port: int):
    with quickstart(tmp_path, free_port, PYFLOW_PORT="http") as running:
        assert running.finish() == 1
    assert running.output == "Error: a port is a number from 1 to 65535, not 'http'\n"


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "8000.5", "٨", "9" * 1000])
def test_what_is_no_port(text: str):
    with pytest.raises(ValueError, match="from 1 to 65535"):
        port_of(text)


def test_a_home_that_cannot_be_is_refused(tmp_path: Path, free_port: int):
    (tmp_path / "file").write_text("")
    with quickstart(tmp_path / "file" / "home", free_port) as running:
        assert running.finish() == 1
    assert len(running.output.splitlines()) == 1
    assert running.output.startswith("Error: ")

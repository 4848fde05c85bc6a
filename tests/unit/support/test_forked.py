"""Programs that the fork server starts are those that an interpreter of their own would be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.processes import forked
from tests.unit.isolation.test_parent import is_gone

PROGRAM = """
import atexit, os, sys, threading
from pathlib import Path

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "pyflow_site.settings"
    from django.conf import settings

    atexit.register(lambda: print("at exit"))
    print(sys.argv[1:], Path.cwd(), os.environ.get("OF_THE_TESTS"), settings.DATABASES["default"]["NAME"])
    print(Path(sys.path[0]), os.getsid(0) == os.getpid(), threading.active_count(), sys.stdin.read() == "")
    print("error", file=sys.stderr)
    sys.exit(int(sys.argv[1]))
"""
PARENT = """
import os, signal, sys
from tests.support.processes.forked import Forked

with open(os.devnull, "wb") as nothing:
    print(Forked([sys.executable, "-m", "http.server", "0"], os.environ, nothing, nothing).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("status", [0, 3])
def test_it_has_the_arguments_environment_streams_and_end_of_a_process(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("OF_THE_TESTS", "not of the program")
    env = {"PATH": os.environ["PATH"], "PYFLOW_HOME": str(tmp_path / f"home-{status}")}
    command = [str(program), str(status), "two words"]
    done = forked.run(command, env)
    real = subprocess.run(
        [sys.executable, *command],
        env=env | {"PYTHONPATH": str(forked.ROOT)},
        cwd=forked.ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, real.stdout, "error\n")
    assert real.returncode == status
    assert f"home-{status}" in done.stdout


def test_signals_end_it(tmp_path: Path):
    with (tmp_path / "log").open("wb") as log:
        program = forked.Forked([sys.executable, "-m", "http.server", "0"], os.environ, log, log)
        assert program.poll() is None
        os.killpg(program.pid, signal.SIGKILL)
        assert program.wait() == program.poll() == -signal.SIGKILL
        program = forked.Forked([sys.executable, "-m", "http.server", "0"], os.environ, log, log)
        program.terminate()
        assert program.wait() == -signal.SIGTERM


def test_it_ends_with_the_tests_that_are_killed(tmp_path: Path):
    with (tmp_path / "pid").open("w") as pid:
        subprocess.run([sys.executable, "-c", PARENT], cwd=forked.ROOT, stdout=pid, check=False)
    number = int((tmp_path / "pid").read_text())
    waiting.until(lambda: is_gone(number), 20, what=f"end of the process {number}")

"""A child process ends with the parent that has started it, also if that is killed while the child still starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.processes.platform import ROOT

#: Whatever runs in the background of a shell ignores SIGINT, and so do its children until they say something else.
PARENT = """
import os, signal, sys
from pathlib import Path
from tests.support.processes.platform import Beat, Process, Server, Worker

signal.signal(signal.SIGINT, signal.SIG_IGN)
env, log = dict(os.environ), Path(sys.argv[2])
made = {"beat": Beat(env, log), "worker": Worker(env, log), "server": Server(env, log, key="")}
idle = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
child = Process(made[sys.argv[1]].command if sys.argv[1] in made else idle, env, log)
child.start()
print(child.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
#: As `manage.py up` starts them.
CHILD_OF_UP = """
import os, signal, sys
from pyflow_site.management.commands.up import BEAT, WORKER
from pyflow_site.processes import Child, web_command

commands = {"beat": BEAT, "worker": WORKER, "server": web_command("127.0.0.1", 1)}
print(Child("child", commands[sys.argv[1]], env=os.environ).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("program", "child"),
    [
        *((PARENT, child) for child in ("idle", "beat", "worker", "server")),
        *((CHILD_OF_UP, child) for child in ("beat", "worker", "server")),
    ],
    ids=["idle", "beat", "worker", "server", "beat of up", "worker of up", "server of up"],
)
def test_a_child_ends_with_a_parent_that_is_killed(program: str, child: str, tmp_path: Path):
    env = {"DJANGO_SETTINGS_MODULE": "pyflow_site.settings", **os.environ, "PYFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program, child, str(tmp_path / "log")]
    # Not `subprocess.run` with a pipe for both: an orphan would hold it, and hide that it is one.
    with (tmp_path / "pid").open("w") as pid:
        subprocess.run(command, cwd=ROOT, env=env, stdout=pid, check=False)
    number = int((tmp_path / "pid").read_text().split()[0])
    waiting.until(lambda: is_gone(number), 20, what=f"end of the process {number}")


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; whoever it belongs to now may not have asked for its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"

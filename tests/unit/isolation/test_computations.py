"""Computations in processes that can be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyflow.isolation import computations
from pyflow.isolation.computations import ComputationBusyError, ComputationLimitError
from tests.support.waiting import until

HERE = "tests.unit.isolation.computed"


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes of the test's own, with little CPU time."""
    own = computations._Pool()
    monkeypatch.setattr(computations, "_pool", own)
    monkeypatch.setattr(computations, "CPU_SECONDS", 1)
    yield
    own.end()


def compute(name: str, *args: object, group: str = "a") -> object:
    return computations.compute(f"{HERE}:{name}", *args, group=group)


def test_a_process_is_used_again():
    assert compute("echo", {"a": [1, None, "\ud800 ü"]}) == {"a": [1, None, "\ud800 ü"]}
    assert compute("process_id") == compute("process_id", group="b") != os.getpid()


def test_what_takes_too_long_is_killed_and_the_next_call_has_another_process():
    first = compute("process_id")
    with pytest.raises(ComputationLimitError, match="CPU time"):
        compute("spin")
    assert compute("process_id") != first


def test_what_takes_too_much_memory_is_a_limit():
    with pytest.raises(ComputationLimitError, match="memory"):
        compute("fill")
    assert compute("echo", 1) == 1


def test_a_process_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(computations, "CPU_SECONDS", 600)
    compute("echo", 1)
    monkeypatch.setattr(computations, "MAX_SECONDS", 0.2)
    with pytest.raises(ComputationLimitError):
        compute("spin")


@pytest.mark.parametrize(("name", "message"), [("fail", "nothing there"), ("leave", "status 3")])
def test_a_mistake_of_ours_is_no_limit(name: str, message: str):
    with pytest.raises(RuntimeError, match=message):
        compute(name)
    assert compute("echo", 1) == 1


def test_no_secret_of_the_environment_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    monkeypatch.setenv("PYFLOW_SECRET_KEY", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy")
    monkeypatch.setenv("PYFLOW_ISOLATED_ENV", "HTTP_*")
    assert "secret" not in str(compute("environment"))


def test_no_django_is_there():
    document = "version: 2\nname: x\nnodes: [{id: a, type: log, config: {message: x}}]"
    planned = computations.compute("workflows.rehearsals:planned", document, "yaml", {}, False, group="a")
    assert planned["plan"]["order"] == ["a"]
    modules = compute("modules")
    assert "workflows.rehearsals" in modules
    assert "django" not in modules


def test_a_group_has_one_process_and_all_have_two(monkeypatch: pytest.MonkeyPatch):
    with computations._pool.process("a"):
        monkeypatch.setattr(computations, "MAX_WAIT", 0)
        with pytest.raises(ComputationBusyError):
            compute("echo", 1)
        assert compute("echo", 1, group="b") == 1
        with computations._pool.process("b"), pytest.raises(ComputationBusyError):
            compute("echo", 1, group="c")
    assert compute("echo", 1) == 1


def test_a_group_that_waits_is_next():
    found: list[object] = []
    with computations._pool.process("a"):
        waiting = threading.Thread(target=lambda: found.append(compute("echo", 1)))
        waiting.start()
        assert found == []
    waiting.join()
    assert found == [1]


def test_processes_end_with_the_one_that_started_them():
    source = (
        "from pyflow.isolation.computations import compute\n"
        f"print(compute('{HERE}:process_id', group='a'), flush=True)\n"
        f"compute('{HERE}:loop', group='a')\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, cwd=root) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        caller.send_signal(signal.SIGKILL)
        caller.wait()
    until(lambda: not _is_alive(child))


def test_a_fork_has_processes_of_its_own():
    ours = compute("process_id")
    reader, writer = os.pipe()
    if not (fork := os.fork()):
        os.write(writer, str(compute("process_id")).encode())
        computations._pool.end()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        theirs = int(told.read())
    os.waitpid(fork, 0)
    assert theirs != ours
    assert compute("process_id") == ours


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

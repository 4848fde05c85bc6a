"""Nodes in threads and processes of their own."""

import asyncio
import datetime
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.error_kinds import error_kinds
from pyflow.core.plain import NotPlainError
from pyflow.core.ports import MappingSecrets
from pyflow.core.redaction import Redactor
from pyflow.execution.engine import WorkflowEngine
from pyflow.expressions.scope import RunScope, SecretScope
from pyflow.isolation.environment import SETTING, IsolatedEnvironmentError, child_environment
from pyflow.isolation.processes import (
    CpuLimitError,
    IsolatedOutputError,
    MemoryLimitError,
    NodeProcessDiedError,
    NotIsolatableError,
    invoker_with,
    run_isolated,
)
from pyflow.net.files import current_root
from pyflow_sdk.errors import NodeError, NonRetryableError, RetryableError
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow
from tests.unit.isolation.isolated_nodes import Anything, Blocking, Doer, Fetcher, Older, Outer

MIB = 1024 * 1024


def context(**results: Any) -> ExecutionContext:
    made = ExecutionContext("flow", "run-1")
    for name, value in results.items():
        made.set_result(name, value)
    return made


def node_context(**details: Any) -> NodeContext:
    return NodeContext(run_id="run-1", node_id="node", workflow="flow", **details)


async def do(what: str, value: Any = None, *, ctx: NodeContext | None = None, **limits: Any) -> Any:
    return await run_isolated(Doer, {"do": what, "value": value}, context(), ctx or node_context(), **limits)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has: whoever adopted it has not looked yet)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def isolation_children() -> list[str]:
    """The command lines of the processes that this one started for nodes."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        pids = (task / "children").read_text().split()
        found += [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    return [command for command in found if "isolation_child" in command]


async def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - it is another process that it waits for
            await asyncio.sleep(0.02)


async def test_a_node_runs_in_another_process_with_what_it_may_know():
    ctx = node_context(attempt=3, idempotency_key="run-1:node:7")
    output = await do("echo", {"when": datetime.date(2024, 2, 29)}, ctx=ctx)
    assert output["pid"] != os.getpid()
    assert output | {"pid": 0} == {
        "value": {"when": "2024-02-29"},
        "attempt": 3,
        "key": "run-1:node:7",
        "pid": 0,
    }
    await eventually(lambda: gone(output["pid"]))


async def test_a_plain_def_a_nested_class_and_a_v1_class_run_there_too():
    assert await run_isolated(Blocking, {"value": 1}, context(), node_context()) == {"value": 1, "thread": True}
    assert await run_isolated(Outer.Inner, {}, context(), node_context()) == "inner"
    shared = context(other={"a": 1})
    shared.scope = RunScope(shared, {"limit": 3}, MappingSecrets({"KEY": "sesame-open"}), lambda: 0.0).names()
    output: Any = await run_isolated(Older, {}, shared, None)
    assert output["seen"] == {"a": 1}
    assert {"other", "run", "secrets", "vars"} <= set(output["scope"])


async def test_secrets_are_asked_for_and_masked():
    redactor = Redactor()
    secrets = SecretScope(MappingSecrets({"KEY": "sesame-open"}), redactor)
    assert await do("secret", "KEY", ctx=node_context(secrets=secrets)) == "sesame-open"
    assert redactor.redact("it is sesame-open") == "it is ***"
    with pytest.raises(NodeError, match="secret not found: OTHER") as caught:
        await do("secret", "OTHER", ctx=node_context(secrets=secrets))
    assert caught.value.code == "secret_not_found"


PLATFORM = [
    *("PYFLOW_SECRET_KEY", "PYFLOW_SECRET_HOOK", "PYFLOW_SECRET__ACME__HOOK", "PYFLOW_KEY_PEPPER", "PYFLOW_API_KEY"),
    *("PYFLOW_MASTER_KEY", "PYFLOW_MASTER_KEY_FILE", "PYFLOW_ISOLATED_ENV", "DATABASE_URL", "REDIS_URL"),
]
OTHERS = [
    *("PGPASSWORD", "DB_PASSWORD", "GITHUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"),
    *("VAULT_ADDR", "HTTP_PROXY", "SENTRY_DSN"),
]


async def test_the_process_sees_none_of_the_platforms_variables(monkeypatch: pytest.MonkeyPatch):
    for name in PLATFORM + OTHERS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("LC_TIME", "C")
    seen = await do("environment")
    assert not seen.keys() & {*PLATFORM, *OTHERS}
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["LC_TIME"] == "C"


def test_a_process_gets_what_an_interpreter_needs_and_what_the_operator_names():
    needed = dict.fromkeys(["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE",
                            "VIRTUAL_ENV", "PYFLOW_STORAGE_ROOT"], "x")  # fmt: skip
    everything = needed | dict.fromkeys(PLATFORM + OTHERS + ["MY_REGION", "MY_", "NOT_MY_REGION", "PATHOLOGY"], "x")
    added = {"MALLOC_ARENA_MAX": "1", "PYTHONUNBUFFERED": "1"}
    assert child_environment(everything | {SETTING: ""}) == needed | added
    some = child_environment(everything | {SETTING: " MY_* ,HTTP_PROXY,,PYFLOW_API_KEY, DATABASE_URL"})
    assert some.keys() - added == needed.keys() | {"MY_REGION", "MY_", "HTTP_PROXY"}
    most = child_environment(everything | {SETTING: "*"})
    assert everything.keys() - most.keys() == set(PLATFORM)


@pytest.mark.parametrize("setting", ["A=B", "MY-NAME", "*_TOKEN", "A B", "$HOME", "A**"])
async def test_a_setting_that_names_no_variable_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SETTING, setting)
    with pytest.raises(IsolatedEnvironmentError, match="no name of a variable"):
        await do("echo")


async def test_what_a_node_came_to_know_is_masked_in_all_that_comes_back(caplog: pytest.LogCaptureFixture):
    shared = context()
    with caplog.at_level(logging.INFO, logger="pyflow.node.fetcher"):
        output = await run_isolated(Fetcher, {"tokens": ["tok-very-long-1"], "long": True}, shared, None)
        with pytest.raises(NodeError, match="refused") as caught:
            await run_isolated(Fetcher, {"tokens": ["tok-very-long-2"], "fail": True}, shared, None)
    assert output == {"token": "tok-very-long-1"}  # as it is here: whatever leaves the run is masked
    assert shared.redactor.redact(output) == {"token": "***"}
    assert shared.redactor.redact(str(caught.value)) == "refused: ***"
    assert "tok-very-long" not in caplog.text
    assert sum(message.endswith("***") for message in caplog.messages) == 5


async def test_an_isolated_run_shows_no_token_that_its_node_fetched():
    registry = stage.registry()
    registry.register(Fetcher)
    events = stage.Sink()
    fetch = node("a", "fetcher", isolation="process", config={"tokens": ["tok-very-long-3"]})
    definition = workflow(fetch, outputs={"got": "{{ a.token }}"})
    result = await stage.execute(WorkflowEngine(registry), definition, sink=events)
    assert result.succeeded
    shown = json.dumps(result.as_dict()) + repr([event.data for event in events.events])
    assert "***" in shown
    assert "tok-very-long-3" not in shown


async def test_a_node_may_not_keep_its_parent_busy_with_masking():
    tokens = [f"token-{i}" for i in range(200)]
    with pytest.raises(NodeProcessDiedError, match="more to mask than 100 values"):
        await run_isolated(Fetcher, {"tokens": tokens}, context(), None)
    assert await run_isolated(Fetcher, {"tokens": ["token-1"] * 200}, context(), None) == {"token": "token-1"}


async def test_the_storage_root_of_the_run_holds_there_too(tmp_path: Path):
    token = current_root.set(tmp_path)
    try:
        assert await do("root") == str(tmp_path)
    finally:
        current_root.reset(token)


async def test_progress_and_output_arrive(caplog: pytest.LogCaptureFixture):
    reports: list[tuple[float, str]] = []
    await do("progress", ctx=node_context(progress=lambda fraction, message: reports.append((fraction, message))))
    assert reports == [(0.5, "half way")]
    with caplog.at_level(logging.INFO, logger="pyflow.node.node"):
        await do("print")
    assert ("pyflow.node.node", logging.INFO, "to standard output") in caplog.record_tuples
    assert ("pyflow.node.node", logging.WARNING, "to standard error") in caplog.record_tuples
    assert "to the logger" in caplog.text


async def test_errors_keep_class_message_and_what_the_retry_policy_looks_at():
    with pytest.raises(RetryableError, match="come back later") as busy:
        await do("busy")
    error: Any = busy.value
    assert (type(error).__name__, error.code, error.retry_after) == ("BusyError", "busy", 7.5)
    assert (error.kind, error.status) == ("http_503", 503)
    assert {"BusyError", "RetryableError", "http_503", "http_5xx"} <= error_kinds(error)
    with pytest.raises(NonRetryableError, match="no use"):
        await do("never")
    with pytest.raises(NodeError, match="not ours") as plain:
        await do("plain")
    assert type(plain.value).__name__ == "ValueError"
    with pytest.raises(TimeoutError, match="no answer") as slow:
        await do("slow_peer")
    assert type(slow.value).__name__ == "TimeoutError"
    assert {"timeout", "OSError"} <= error_kinds(slow.value)
    with pytest.raises(NodeError, match=r"^'colour'$"):
        await do("key")
    with pytest.raises(NodeError) as broken:
        await do("broken")
    assert type(broken.value).__name__ == "UnspeakableError"


async def test_an_output_must_be_plain_data_of_a_bounded_size():
    assert len(await do("large", 100_000)) == 100_000
    with pytest.raises(NonRetryableError, match="larger than 1,000 bytes") as large:
        await do("large", 2000, max_output=1000)
    assert large.value.code == IsolatedOutputError.code
    with pytest.raises(NodeError) as odd:
        await do("object")
    assert odd.value.code == NotPlainError.code


async def test_a_node_that_wants_too_much_memory_gets_a_typed_error():
    assert await do("memory", 10 * MIB, memory_limit=64 * MIB) == 10 * MIB
    with pytest.raises(MemoryLimitError, match="memory_limit"):
        await do("memory", 512 * MIB, memory_limit=64 * MIB)


@pytest.mark.parametrize("loop", ["cpu", "regex"])
async def test_a_node_that_computes_for_too_long_gets_a_typed_error(loop: str):
    with pytest.raises(CpuLimitError, match="cpu_limit"):
        await do(loop, cpu_limit=0.3)


@pytest.mark.parametrize(("how", "why"), [("suicide", "SIGKILL"), ("exit", "status 3")])
async def test_a_process_that_dies_is_worth_another_attempt(how: str, why: str):
    with pytest.raises(NodeProcessDiedError, match=why) as caught:
        await do(how)
    assert isinstance(caught.value, RetryableError)


async def test_a_node_that_ignores_every_signal_is_gone_with_its_timeout(tmp_path: Path):
    note = tmp_path / "pid"
    task = asyncio.create_task(do("stubborn", str(note)))
    await eventually(lambda: note.exists() and note.read_text() != "")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("what", ["cpu", "regex"])
async def test_a_loop_ends_with_its_timeout(what: str):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await do(what)
    assert not isolation_children()


async def test_cancelling_while_the_process_starts_leaves_nothing_behind():
    for delay in (0, 0.001, 0.005, 0.02, 0.1):
        task = asyncio.create_task(do("echo"))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not isolation_children()


async def test_what_a_node_started_goes_with_it(tmp_path: Path):
    note = tmp_path / "pid"
    task = asyncio.create_task(do("offspring", str(note)))
    await eventually(lambda: note.exists() and note.read_text() != "")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: gone(int(note.read_text())), 2)
    left = await do("leave_offspring")
    await eventually(lambda: gone(left), 2)
    assert await do("leave_thread") == "done"


async def test_what_cannot_be_handed_over_is_refused():
    class Local(BaseNodeV2[Anything]):
        node_type = "local"
        Config = Anything

    with pytest.raises(NotIsolatableError, match="inside a function"):
        await run_isolated(Local, {}, context(), node_context())
    with pytest.raises(NotIsolatableError, match="cannot be handed"):
        await do("echo", threading.Lock())


SCRIPT = """
    import asyncio, multiprocessing, os, signal, sys, time
    from pyflow.core.context import ExecutionContext
    from pyflow.isolation.processes import run_isolated
    from pyflow_sdk.node import BaseNodeV2, NodeContext
    from pydantic import BaseModel

    class Config(BaseModel):
        note: str = ""

    class Mine(BaseNodeV2[Config]):
        node_type = "mine"
        Config = Config

        async def run(self, config, ctx):
            if config.note:
                open(config.note, "w").write(str(os.getpid()))
                while True:
                    pass
            return "from a script"

    def work(note):
        ctx = NodeContext(run_id="r", node_id="n", workflow="w")
        return asyncio.run(run_isolated(Mine, {"note": note}, ExecutionContext("w", "r"), ctx))

    if __name__ == "__main__":
        # Celery's prefork workers are daemonic, too.
        worker = multiprocessing.get_context("fork").Process(target=lambda: print(work(sys.argv[1])), daemon=True)
        worker.start()
        if sys.argv[1]:
            while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
                time.sleep(0.02)
            os.kill(worker.pid, signal.SIGKILL)
        worker.join()
"""


def run_script(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    return subprocess.run(
        [sys.executable, str(script), *args],
        cwd="/",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_it_works_in_a_daemonic_worker_for_a_class_of_a_script_from_any_directory(tmp_path: Path):
    assert run_script(tmp_path, "").stdout == "from a script\n"


def test_the_process_ends_with_its_parent(tmp_path: Path):
    note = tmp_path / "pid"
    run_script(tmp_path, str(note))
    pid = int(note.read_text())
    asyncio.run(eventually(lambda: gone(pid), 2))


async def test_the_seam_gives_what_the_isolation_asks_for():
    here = threading.get_ident()
    plain = await invoker_with(Older, None)({}, context(other=1), None)
    thread = await invoker_with(Older, "thread")({}, context(other=1), None)
    assert plain == {"seen": 1, "scope": [], "thread": here}
    assert isinstance(thread, dict)
    assert thread["thread"] != here
    with pytest.raises(MemoryLimitError):
        await invoker_with(Doer, "process", memory_limit=32 * MIB)(
            {"do": "memory", "value": 512 * MIB}, context(), node_context()
        )


async def test_a_blocking_async_node_in_a_thread_blocks_nobody_and_can_be_left():
    invoke = invoker_with(Older, "thread")
    working = asyncio.create_task(_awaited(invoke({"block": 0.5}, context(other=1), None)))
    ticks = 0
    while not working.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 10
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await invoke({"nap": 600}, context(other=1), None)


async def _awaited(work: Any) -> Any:
    return await work

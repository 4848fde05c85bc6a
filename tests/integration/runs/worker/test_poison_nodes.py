"""A node that exits, cancels, stops or changes what it shares: its own run bears it, those of another tenant do not."""

import asyncio
import decimal
import gc
import logging
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from pyflow.core.node import NodeRegistry
from pyflow.isolation import node_loop
from runs.models import NodeRun, Run
from runs.services.start import Start, start_run
from runs.worker.executor import RunExecutor
from runs.worker.leaks import leaks
from runs.worker.process_settings import ProcessSettings
from tenants.models import Tenant
from tests.support import waiting
from tests.support.factories import poison
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import a_test, make_run, make_tenant, make_workflow
from tests.support.histories import assert_is_whole
from tests.support.processes.running import executing, nodes

OTHERS = 30
INNOCENT = workflow(
    "{id: a, type: pause}", "{id: b, type: pause, depends_on: [a]}", "{id: c, type: block, depends_on: [b]}",
    name="innocent",
)  # fmt: skip


@pytest.fixture(autouse=True)
def patient(settings) -> None:
    """No lease ends only because the machine is slow."""
    settings.PYFLOW_LEASE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def types(registry) -> NodeRegistry:
    async def pause(ctx) -> str:
        await asyncio.sleep(0.05)
        return ctx.node_id

    register(registry, "pause", pause)
    register(registry, "block", lambda ctx: str(decimal.Decimal(1) / 3))
    poison.register_poisons(registry)
    return registry


def innocent(count: int = OTHERS) -> list[Run]:
    """Runs of another tenant."""
    other = make_tenant()
    make_workflow(other, INNOCENT)
    by = a_test(other)
    return [start_run(by=by, workflow_name="innocent", start=Start(input={})).run for _ in range(count)]


def until_ended() -> None:
    left = Run.objects.across_tenants().filter(finished_at=None)
    waiting.until(lambda: not left.exists(), 60, "end of all runs")


def assert_are_whole(runs: list[Run]) -> None:
    for run in runs:
        assert_is_whole(run, ["a", "b", "c"])
    outputs = NodeRun.objects.across_tenants().filter(run__in=runs, node_id="c").values_list("output", flat=True)
    assert set(outputs) == {"0." + "3" * 28}


def fate(run: Run) -> tuple[str, str | None]:
    run.refresh_from_db()
    return run.state, None if run.error is None else run.error["code"]


@pytest.mark.parametrize("group", poison.GROUPS)
def test_poison_nodes_take_no_run_of_another_tenant_with_them(tenant, executor, group):
    guilty = {}
    others = innocent(OTHERS // 2)
    for name in poison.GROUPS[group]:
        guilty[name] = make_run(tenant, workflow(f"{{id: a, type: {name}}}", name=name.replace("_", "-")))
    others += innocent(OTHERS // 2)
    until_ended()
    assert_are_whole(others)
    codes = {name: poison.CODES.get(name) for name in guilty}
    expected = {name: ("failed" if code else "succeeded", code) for name, code in codes.items()}
    assert {name: fate(run) for name, run in guilty.items()} == expected
    assert set(Run.objects.across_tenants().values_list("claims", flat=True)) == {1}, "nobody had to go on elsewhere"


@pytest.mark.parametrize("name", ["raises_system_exit", "raises_cancelled", "cancels_itself_and_fails"])
def test_attempts_that_exit_are_retried_as_any_other(tenant: Tenant, drain, name: str):
    retry = "retry: {max_attempts: 3, initial_interval: 0}"
    run = make_run(tenant, workflow(f"{{id: a, type: {name}, {retry}}}"))
    items = make_run(
        tenant, workflow(f"{{id: a, type: {name}, for_each: [1, 2], tolerate_failures: 1, {retry}}}", name="items")
    )
    drain()
    assert fate(run) == ("failed", poison.CODES[name])
    assert NodeRun.objects.across_tenants().get(run=run).attempts == 3
    assert fate(items) == ("failed", "items_failed")


@pytest.mark.parametrize("name", ["raises_system_exit", "raises_cancelled", "cancels_itself"])
@pytest.mark.parametrize("more", ["queue: elsewhere", "heartbeat_timeout: 5s", "timeout: 5s", "isolation: thread"])
def test_wherever_the_attempt_is_made(tenant: Tenant, drain, name: str, more: str):
    others = innocent(2)
    run = make_run(tenant, workflow(f"{{id: a, type: {name}, {more}}}"))
    drain()
    assert fate(run) == ("failed", poison.CODES[name])
    assert_are_whole(others)


def test_what_undoes_and_what_finishes_goes_on_after_one_that_exits(tenant: Tenant, drain):
    source = workflow(
        "{id: a, type: pause, compensate: {type: raises_system_exit}}",
        "{id: b, type: pause, depends_on: [a], compensate: {type: raises_cancelled}}",
        "{id: c, type: fail, depends_on: [b], config: {message: no}}",
        **{"finally": "[{id: z, type: raises_fatal}, {id: y, type: pause}]"},
    )
    run = make_run(tenant, source)
    drain()
    assert fate(run)[0] == "failed"
    states = nodes(run)
    assert (states["z"], states["y"]) == ("failed", "succeeded")
    assert sorted(state for node, state in states.items() if node not in "abcyz") == ["failed", "failed"]


# --- executors that end


class Broken(BaseException):
    """Whatever may go wrong."""


@pytest.mark.parametrize("error", [Broken, SystemExit, RuntimeError, asyncio.CancelledError])
def test_an_executor_that_breaks_off_is_replaced_and_has_recorded_nothing_false(tenant, monkeypatch, error):
    deliver, broken = RunExecutor._deliver, []

    async def break_off(executor: RunExecutor) -> None:
        if len(executor._active) >= OTHERS and not broken:
            broken.append(executor)
            raise error
        await deliver(executor)

    monkeypatch.setattr(RunExecutor, "_deliver", break_off)
    others = innocent()
    with executing():
        until_ended()
    assert broken
    assert_are_whole(others)
    assert {run.claims for run in others} == {2}


def test_whoever_cancels_everything_ends_no_run(tenant, monkeypatch):
    """As a loop that is torn down does: all at once, each before it could get the reason."""
    deliver, torn = RunExecutor._deliver, []

    async def tear_down(executor: RunExecutor) -> None:
        if len(executor._active) >= OTHERS and not torn:
            torn.append(executor)
            for task in asyncio.all_tasks():
                task.cancel()
        await deliver(executor)

    monkeypatch.setattr(RunExecutor, "_deliver", tear_down)
    others = innocent()
    with executing():
        until_ended()
    assert torn
    assert_are_whole(others)


def test_what_an_executor_cannot_do_without_begins_again(tenant, registry, monkeypatch):
    renew, begun = RunExecutor._heartbeat, []

    async def breaks_off_once(executor: RunExecutor) -> None:
        begun.append(executor)
        if len(begun) == 1:
            raise RuntimeError("broken off")
        await renew(executor)

    monkeypatch.setattr(RunExecutor, "_heartbeat", breaks_off_once)
    others = innocent(2)
    with executing():
        until_ended()
    assert_are_whole(others)
    assert len(begun) == 2
    assert begun[0] is begun[1]


def test_an_event_loop_that_stands_still_is_replaced_and_its_runs_go_on(tenant, registry, settings, monkeypatch):
    settings.PYFLOW_LEASE_SECONDS = 3.0
    begun, go = [], threading.Event()

    async def blocks_once(ctx) -> int:
        begun.append(ctx.attempt)
        if len(begun) == 1:
            go.wait(60)  # on the loop
        return ctx.attempt

    register(registry, "blocks", blocks_once)
    run = make_run(tenant, workflow("{id: a, type: blocks}"))
    others = innocent(2)
    try:
        with executing():
            until_ended()
            assert_is_whole(run, "a")
            assert_are_whole(others)
    finally:
        go.set()
    assert len(begun) == 2


# --- what a process shares


def test_settings_are_put_back_and_named():
    saved = ProcessSettings()
    before = Path.cwd(), dict(os.environ), list(sys.path), sys.getrecursionlimit(), sys.stdout
    handlers = list(logging.root.handlers)
    with decimal.localcontext():  # no setting of the process, and each attempt has its own
        poison.changes_settings(None)
    changed = saved.restore()
    assert (Path.cwd(), dict(os.environ), list(sys.path), sys.getrecursionlimit(), sys.stdout) == before
    assert (gc.isenabled(), socket.getdefaulttimeout(), logging.root.handlers) == (True, None, handlers)
    assert len(changed) == 12
    assert saved.restore() == []
    saved.close()


@pytest.mark.parametrize("more", ["queue: elsewhere", "timeout: 5s", "isolation: thread", "on_error: stop"])
def test_each_attempt_has_a_decimal_context_of_its_own(tenant, registry, drain, more):
    """Of a thread that has one its tasks inherit the very same."""

    async def rounds(ctx) -> None:
        decimal.getcontext().prec = 2

    register(registry, "rounds", rounds)
    register(registry, "rounds_in_a_thread", lambda ctx: setattr(decimal.getcontext(), "prec", 2))
    with decimal.localcontext():
        for name in ("rounds", "rounds_in_a_thread"):
            make_run(tenant, workflow(f"{{id: a, type: {name}, {more}}}", name=name.replace("_", "-")))
        others = innocent(2)
        drain()
        assert_are_whole(others)
        assert decimal.getcontext().prec == 28


def test_a_stream_that_a_node_closed_is_opened_again(tmp_path, monkeypatch):
    stream = (tmp_path / "out").open("w")
    monkeypatch.setattr(sys, "stderr", stream)
    saved = ProcessSettings()
    stream.close()
    assert saved.restore() == ["standard streams"]
    assert not sys.stderr.closed
    saved.close()


def test_a_process_with_too_much_left_behind_is_worn(monkeypatch):
    assert not leaks()
    monkeypatch.setattr("runs.worker.leaks.MAX_FILES", 0.0)
    assert leaks()


def test_a_worn_executor_claims_nothing_more_and_ends(tenant, monkeypatch):
    monkeypatch.setattr("runs.worker.executor.leaks", lambda: True)
    runs = innocent(2)
    executor = RunExecutor(linger=60.0)
    node_loop.run(executor.drain())
    assert executor.is_worn
    assert_are_whole(runs)

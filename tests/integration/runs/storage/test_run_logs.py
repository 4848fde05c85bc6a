"""What nodes log while they run is kept with the run: in order, masked, and never more than so much."""

import asyncio
import logging
import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pyflow.execution.run_log import MAX_MESSAGE
from runs.models import Run, RunLog
from runs.queue.leases import claim
from runs.services.retry import retry_run
from runs.storage.writer import moment, store
from runs.worker import sink
from runs.worker.executor import RunExecutor
from runs.worker.sink import LOG_CUT
from tests.support import waiting
from tests.support.factories import records
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.factories.secrets import make_secret
from tests.support.processes.running import cancel, ended, executing, operator, parked, send

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def lines(run: Run) -> list[RunLog]:
    return list(RunLog.objects.for_tenant(run.tenant_id).filter(run=run).order_by("seq"))


def texts(run: Run) -> list[str]:
    return [line.message for line in lines(run)]


def test_log_nodes_and_loggers_on_the_loop_and_in_threads_are_kept_in_order(tenant, registry, drain):
    async def on_the_loop(ctx):
        ctx.logger.debug("one")
        ctx.logger.info("two %s", 2)
        await asyncio.sleep(0)
        ctx.logger.critical("three")

    def in_a_thread(ctx):
        for number in range(50):
            ctx.logger.log(logging.INFO + 3, "line %d", number)

    register(registry, "on_the_loop", on_the_loop)
    register(registry, "in_a_thread", in_a_thread)
    source = workflow(
        "{id: a, type: on_the_loop}",
        "{id: b, type: in_a_thread, depends_on: [a]}",
        "{id: c, type: log, depends_on: [b], config: {message: '{{ input.who }} was here', level: warning}}",
        inputs="{who: string}",
    )
    run = make_run(tenant, source, {"who": "Ada"})
    drain()
    ended(run, "succeeded")
    found = lines(run)
    assert [line.seq for line in found] == list(range(1, 55))
    assert [line.message for line in found] == [
        "one", "two 2", "three", *(f"line {number}" for number in range(50)), "Ada was here",
    ]  # fmt: skip
    assert [line.level for line in found] == [10, 20, 50, *[20] * 50, 30]
    assert {(line.node_id, line.attempt, line.item) for line in found} == {(node, 1, None) for node in "abc"}
    assert run.started_at <= found[0].at <= found[-1].at <= run.finished_at


def test_attempts_and_items_are_distinguished(tenant, registry, drain):
    def work(ctx, config):
        ctx.logger.info("%s", config.value)
        if config.value == "y" and ctx.attempt == 1:
            raise RuntimeError("not yet")

    register(registry, "work", work)
    node = (
        "{id: a, type: work, for_each: '{{ input.all }}', retry: {max_attempts: 2, delay: 0}, "
        "config: {value: '{{ item }}'}}"
    )
    run = make_run(tenant, workflow(node, inputs="{all: array}"), {"all": ["x", "y"]})
    drain()
    ended(run, "succeeded")
    found = {(line.message, line.attempt, line.item) for line in lines(run)}
    assert found == {("x", 1, 0), ("y", 1, 1), ("y", 2, 1)}


def test_what_is_logged_shows_while_the_node_still_runs(tenant, registry):
    finish = threading.Event()

    def slow(ctx):
        ctx.logger.info("begun")
        assert finish.wait(60)

    register(registry, "slow", slow)
    run = make_run(tenant, workflow("{id: a, type: slow}"))
    with executing():
        waiting.until(lambda: texts(run) == ["begun"], what="line of a node that runs")
        finish.set()
        ended(run, "succeeded")


def test_an_error_is_named_without_its_traceback(tenant, registry, drain):
    def careful(ctx):
        try:
            raise ValueError("no good")
        except ValueError as error:
            ctx.logger.exception("it failed")
            ctx.logger.warning("%(what)s", {"what": "again"}, exc_info=error)

    register(registry, "careful", careful)
    run = make_run(tenant, workflow("{id: a, type: careful}"))
    drain()
    assert texts(run) == ["it failed\nValueError: no good", "again\nValueError: no good"]


def test_secrets_are_masked_and_what_no_database_holds_is_replaced(tenant, registry, drain, monkeypatch):
    # Nor does pytest send such a text from one of its processes to another.
    monkeypatch.setattr(logging.getLogger("pyflow.node"), "propagate", False)
    make_secret(tenant, "CANARY", "sing, canary!")

    def tell(ctx):
        value = ctx.secret("CANARY")
        ctx.logger.info("%s%s", value[:6], value[6:])
        try:
            raise ValueError(value)
        except ValueError:
            ctx.logger.exception("oh")
        ctx.logger.info("a\0b\ud800c")

    register(registry, "tell", tell)
    run = make_run(tenant, workflow("{id: a, type: tell}"))
    drain()
    ended(run, "succeeded")
    assert texts(run) == ["***", "oh\nValueError: ***", "a\N{REPLACEMENT CHARACTER}b?c"]


def test_what_a_node_of_another_queue_logs_comes_with_its_end(tenant, registry):
    make_secret(tenant, "CANARY", "sing, canary!")

    def tell(ctx, config):
        ctx.logger.warning("%s %s", config.value, ctx.secret("CANARY"))
        if config.value == 1 and ctx.attempt == 1:
            raise RuntimeError("not yet")

    register(registry, "tell", tell)
    node = (
        "{id: a, type: tell, queue: gpu, for_each: '{{ input.all }}', retry: {max_attempts: 2, delay: 0}, "
        "config: {value: '{{ item }}'}}"
    )
    run = make_run(tenant, workflow(node, inputs="{all: array}"), {"all": list(range(30))})
    executors = [RunExecutor({queue}) for queue in ("", "gpu")]
    threads = [threading.Thread(target=lambda one=one: asyncio.run(one.serve()), daemon=True) for one in executors]
    for thread in threads:
        thread.start()
    ended(run, "succeeded")
    for one, thread in zip(executors, threads, strict=True):
        one.stop()
        thread.join(20)
    found = lines(run)
    assert [line.seq for line in found] == list(range(1, 32))
    expected = {(f"{number} ***", number, 1, 30) for number in range(30)} | {("1 ***", 1, 2, 30)}
    assert {(line.message, line.item, line.attempt, line.level) for line in found} == expected


def test_a_run_that_goes_on_elsewhere_goes_on_with_its_numbers(tenant, registry):
    source = workflow(
        "{id: a, type: log, config: {message: before}}",
        "{id: b, type: signal, depends_on: [a], config: {name: go}}",
        "{id: c, type: log, depends_on: [b], config: {message: after}}",
    )
    run = make_run(tenant, source)
    with executing():
        parked(run)
    send(run, "go")
    with executing():
        ended(run, "succeeded")
    assert [(line.seq, line.message) for line in lines(run)] == [(1, "before"), (2, "after")]


def test_a_flood_is_cut_where_it_says_so_and_the_run_goes_on(tenant, registry, drain, monkeypatch):
    monkeypatch.setattr(sink, "MAX_LINES", 100)

    def flood(ctx):
        for number in range(20_000):
            ctx.logger.info("%d", number)

    register(registry, "flood", flood)
    run = make_run(
        tenant, workflow("{id: a, type: flood}", "{id: b, type: log, depends_on: [a], config: {message: x}}")
    )
    drain()
    ended(run, "succeeded")
    found = lines(run)
    assert [line.message for line in found] == [*(str(number) for number in range(100)), LOG_CUT]
    assert (found[-1].node_id, found[-1].level) == ("", logging.WARNING)
    assert (run.log_lines, run.log_characters > sink.MAX_CHARACTERS) == (101, True)


def test_a_log_is_cut_by_its_size_and_a_line_by_its_own(tenant, registry, monkeypatch):
    monkeypatch.setattr(sink, "MAX_CHARACTERS", 3 * MAX_MESSAGE)

    def loud(ctx):
        for _ in range(5):
            ctx.logger.info("x" * (MAX_MESSAGE + 1234))

    register(registry, "loud", loud)
    source = workflow(
        "{id: a, type: loud}", "{id: b, type: signal, config: {name: go}}", "{id: c, type: loud, depends_on: [b]}"
    )
    run = make_run(tenant, source)
    with executing():
        parked(run)
    expected = ["x" * MAX_MESSAGE + "… (1,234 more characters)"] * 2 + [LOG_CUT]
    assert texts(run) == expected
    send(run, "go")
    with executing():
        ended(run, "succeeded")
    assert texts(run) == expected, "it was cut before"


def test_a_thread_that_outlives_its_execution_harms_no_later_one(tenant, registry):
    """Its line would be one of an earlier epoch, in a batch with what the run writes under the new one."""
    go_on, over, finish, times = threading.Event(), threading.Event(), threading.Event(), []

    def stubborn(ctx):
        times.append(ctx.attempt)
        ctx.logger.info("%d", len(times))
        if len(times) == 1:
            assert go_on.wait(60)
            ctx.logger.info("late")
            over.set()
        else:
            assert finish.wait(60)

    register(registry, "stubborn", stubborn)
    run = make_run(tenant, workflow("{id: a, type: stubborn}"))
    with executing():
        waiting.until(lambda: texts(run) == ["1"], what="line of the first try")
        cancel(run)
        ended(run, "cancelled")
        retry_run(by=operator(run), run_id=run.pk)
        waiting.until(lambda: texts(run) == ["1", "2"], what="line of the second try")
        go_on.set()
        assert over.wait(60)
        finish.set()
        ended(run, "succeeded")
    assert texts(run) == ["1", "2"]


def test_a_batch_adds_the_lines_of_all_its_runs_in_one_statement(tenant):
    make_run(tenant)
    make_run(tenant)
    writes = []
    for claimed in claim(records.OWNER, 2):
        write = records.new_write(claimed)
        row = {"node_id": "greet", "attempt": 1, "item": None, "level": logging.INFO, "at": moment(0)}
        write.log = [row | {"seq": number, "message": str(number)} for number in range(1, 21)]
        write.changes = {"log_lines": 20, "log_characters": 31}
        writes.append(write)
    with CaptureQueriesContext(connection) as context:
        assert store(writes) == set()
    inserts = [query for query in context.captured_queries if 'INTO "runs_runlog"' in query["sql"]]
    assert len(inserts) == 1
    assert RunLog.objects.for_tenant(tenant).count() == 40
    assert set(Run.objects.for_tenant(tenant).values_list("log_lines", "log_characters")) == {(20, 31)}

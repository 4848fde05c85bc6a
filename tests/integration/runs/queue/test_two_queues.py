"""A limit of a tenant that its runs of several queues share."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runs.models import Run
from runs.queue.leases import claim
from runs.worker import executor
from runs.worker.executor import RunExecutor
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import allow, make_run, make_tenant
from tests.support.histories import assert_is_whole

pytestmark = pytest.mark.database


@contextmanager
def serving(queue: str) -> Iterator[RunExecutor]:
    """An executor of one queue, on a thread of its own."""
    executor = RunExecutor({queue})
    thread = threading.Thread(target=lambda: asyncio.run(executor.serve()))
    thread.start()
    try:
        yield executor
    finally:
        executor.stop()
        thread.join()


def test_the_end_of_a_run_starts_those_of_other_queues_without_a_sweep(
    tenant, registry, finished, settings, monkeypatch
):
    """Two tenants, each of which may have one run executed at a time, and no executor looks for anything by itself."""
    settings.PYFLOW_SWEEP_SECONDS = 3600.0
    settings.PYFLOW_LEASE_SECONDS = 60.0
    go, has_looked = threading.Event(), threading.Event()

    def look(*args, queues, **options):
        kept_out = Run.objects.across_tenants().filter(queue="two", state="queued").count()
        taken = claim(*args, queues=queues, **options)
        if queues == {"two"} and kept_out == 2 and not taken:
            has_looked.set()
        return taken

    monkeypatch.setattr(executor, "claim", look)
    register(registry, "hold", lambda ctx: go.wait(30))
    held = workflow("{id: a, type: hold}", settings="{queue: one}")
    next_one = workflow("{id: a, type: log, config: {message: x}}", settings="{queue: two}")
    with serving("one") as one, serving("two"):
        runs = []
        for owner in (tenant, make_tenant()):
            allow(owner, 1)
            runs.append(make_run(owner, held))
        waiting.until(lambda: len(one._active) == len(runs), what="start of the runs that hold the places")
        kept_out = [make_run(run.tenant, next_one) for run in runs]
        assert has_looked.wait(30)
        go.set()
        for run in (*runs, *kept_out):
            assert_is_whole(finished(run), "a")

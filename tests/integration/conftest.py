"""Executors of runs in the test's own process, and node types made for the test."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from plugins import discovery
from pyflow.core.bus import MemoryBus
from pyflow.core.node import NodeRegistry
from pyflow.execution.execution import Execution
from pyflow.nodes import default_registry
from runs.models import Run
from runs.worker.executor import RunExecutor
from runs.worker.inprocess import InProcessExecutor
from tenants.models import Tenant
from tests.support import waiting
from tests.support.factories.rows import make_tenant
from tests.support.servers.event_bus import in_one_process


@pytest.fixture
def tenant(transactional_db) -> Tenant:
    return make_tenant()


@pytest.fixture
def registry() -> Iterator[NodeRegistry]:
    """Node types of this test, as if they had been installed: register them before anything is stored."""
    registry = default_registry.copy()
    with discovery.using(discovery.Discovered(registry, ())):
        yield registry


@pytest.fixture(autouse=True)
def bus() -> Iterator[MemoryBus]:
    """The event bus of this process alone."""
    with in_one_process() as bus:
        yield bus


@pytest.fixture(autouse=True)
def quick(settings, tmp_path) -> None:
    """Leases of two seconds, looks for lost runs every tenth of one, files of this test only."""
    settings.PYFLOW_LEASE_SECONDS = 2.0
    settings.PYFLOW_SWEEP_SECONDS = 0.1
    settings.PYFLOW_STORAGE_ROOT = tmp_path / "storage"
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"


@pytest.fixture
def drain(transactional_db) -> Callable[[], None]:
    """Executes runs in this thread until nothing is left to claim."""

    def execute() -> None:
        connection.close()  # or SQLite's writer would be this one, idle
        asyncio.run(RunExecutor().drain())

    return execute


@pytest.fixture
def executor(transactional_db) -> Iterator[InProcessExecutor]:
    """An executor on a thread of its own, as the single-node server has it."""
    executor = InProcessExecutor()
    executor.start()
    yield executor
    executor.stop()


@pytest.fixture
def finished(transactional_db) -> Callable[[Run], Run]:
    """Waits for the end of a run and returns it as it is by then."""

    def wait(run: Run) -> Run:
        def ended() -> bool:
            run.refresh_from_db()
            return run.finished_at is not None

        waiting.until(ended, what=f"end of run {run.pk}")
        return run

    return wait


@pytest.fixture
def heard(monkeypatch) -> threading.Event:
    """Set once an executor has received a pause."""
    event, pause = threading.Event(), Execution.pause

    def listen(execution: Execution) -> None:
        pause(execution)
        event.set()

    monkeypatch.setattr(Execution, "pause", listen)
    return event

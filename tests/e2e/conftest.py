"""A ledger that workflows call, and the environment of processes on this test's database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.platform import environment
from tests.support.servers import ledger as ledgers


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[ledgers.Ledger]:
    with ledgers.serving(tmp_path / "ledger") as ledger:
        yield ledger


@pytest.fixture
def single(tmp_path: Path, transactional_db) -> dict[str, str]:
    """The environment of the single-node shape: the server executes runs itself."""
    return environment(tmp_path / "home", PYFLOW_EXECUTOR="inprocess")

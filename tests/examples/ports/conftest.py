"""A service that answers as a test says, and what runs `examples/ports` against it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import Ports
from tests.support.servers.scripted import Scripted, scripted


@pytest.fixture
def service() -> Iterator[Scripted]:
    with scripted() as service:
        yield service


@pytest.fixture
def ports(service: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ports:
    monkeypatch.setenv("PYFLOW_STORAGE_ROOT", str(tmp_path))
    monkeypatch.setenv("PYFLOW_ALLOWED_NETWORKS", "127.0.0.0/8")
    return Ports(service, tmp_path, {"CHAT": f"{service.url}/chat"})

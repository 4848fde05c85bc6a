"""Runs of `examples/ports` in the library, against a service on this machine; their waits take no time."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyflow.cli.workflows import DirectoryWorkflows
from pyflow.core.result import RunResult
from pyflow.core.suspension import Signal
from pyflow.execution.engine import WorkflowEngine
from pyflow.testing import ManualClock, MappingSecrets
from pyflow.validation.loader import parse_workflow
from tests.repo_shape.tree import ROOT
from tests.support.factories import stage
from tests.support.servers.scripted import Scripted

PORTS = ROOT / "examples" / "ports"
#: When runs start: a Monday.
NOW = datetime(2026, 11, 30, 7, tzinfo=UTC)

_SERVICES = re.compile(r"https://[a-z]+\.example\.com")


def source_of(port: str, url: str) -> str:
    """Return the document of a port, with ``url`` in place of the services that it names."""
    return _SERVICES.sub(url, (PORTS / f"{port}.yaml").read_text(encoding="utf-8"))


@dataclass
class Ports:
    """Runs ports that find ``service`` at the addresses of their examples, and store in ``folder``."""

    service: Scripted
    folder: Path
    secrets: dict[str, str]
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW.timestamp(), auto_advance=True))

    async def run(self, port: str, /, *signals: Signal, run_id: str | None = None, **input: Any) -> RunResult:
        """Run a port to its end. Its input has the service as ``api`` if it wants one."""
        workflow = parse_workflow(source_of(port, self.service.url))
        engine = WorkflowEngine(
            clock=self.clock, secrets=MappingSecrets(self.secrets), workflows=DirectoryWorkflows(PORTS)
        )
        fields: Mapping[str, Any] = (workflow.inputs or {}).get("properties", {})
        given = ({"api": self.service.url} if "api" in fields else {}) | input
        return await stage.start(engine, workflow, run_id=run_id, input=given, signals=signals).wait()

    def stored(self, path: str) -> Any:
        """Return the content of a JSON file that a run has stored."""
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def text(self, path: str) -> str:
        """Return the text of a file that a run has stored."""
        return (self.folder / path).read_text(encoding="utf-8")

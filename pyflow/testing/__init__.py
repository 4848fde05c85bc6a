"""Tools for testing workflows: a run in memory, mocks in place of nodes, a clock that can be moved, a bus.

result = await run_workflow(Path("order.yaml"), mocks={"charge": MockNode(returns={"id": 7})}, input={"order": 1})
assert result.succeeded
"""

from pyflow.core.bus import MemoryBus
from pyflow.core.ports import MappingSecrets, MemorySink
from pyflow.execution.dry_run import DryRun, dry_run
from pyflow.testing.clock import ManualClock
from pyflow.testing.mocks import MockCall, MockNode, mocked
from pyflow.testing.runs import run_workflow

__all__ = [
    "DryRun",
    "ManualClock",
    "MappingSecrets",
    "MemoryBus",
    "MemorySink",
    "MockCall",
    "MockNode",
    "dry_run",
    "mocked",
    "run_workflow",
]

"""The common part of ``wait``, ``signal`` and ``approval``: nodes that a timer or a signal completes."""

from __future__ import annotations

from typing import NoReturn

from pyflow.core.duration import parse_duration
from pyflow.core.errors import NodeTimeoutError, NonRetryableError
from pyflow.core.messages import show
from pyflow.core.suspension import SuspendingNode
from pyflow_sdk.node import ConfigT, NodeContext

#: Characters of the name of a signal.
MAX_SIGNAL_NAME = 255


class WaitingNode(SuspendingNode[ConfigT]):
    """Base of the nodes that wait: the engine does it for them, holding neither a thread nor a worker."""

    async def run(self, config: ConfigT, ctx: NodeContext) -> NoReturn:  # noqa: ARG002
        """Only an engine can wait."""
        raise NonRetryableError(f"`{self.node_type}` runs in an engine only, not by itself ({ctx.node_id})")


def end_of(timeout: float | str | None, now: float) -> float | None:
    """The POSIX time at which a timeout ends that begins at ``now``; ``None`` without one."""
    return None if timeout is None else now + parse_duration(timeout)


def nothing_came(what: str, timeout: float | str | None) -> NodeTimeoutError:
    """The error of a wait that took too long."""
    limit = "its time" if timeout is None else f"{parse_duration(timeout):g} s"
    return NodeTimeoutError(f"no {what} within {limit}", kind="timeout")


def signal_name(name: str) -> str:
    """Return the name of a signal. Raises ``NonRetryableError`` if it is longer than the name of a signal can be."""
    if len(name) > MAX_SIGNAL_NAME:
        raise NonRetryableError(
            f"the name of a signal has at most {MAX_SIGNAL_NAME} characters, and {show(name)} has {len(name):,}:"
            " give the items shorter keys with `item_key`"
        )
    return name

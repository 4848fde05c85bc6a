"""The ``signal`` node: waits for a message to the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, RootModel

from pyflow.core.suspension import ANY_SIGNAL, Signal, Suspension
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import NodeConfig, Seconds
from pyflow.nodes.waiting import WaitingNode, end_of, nothing_came
from pyflow_sdk.node import NodeContext


class SignalConfig(NodeConfig):
    """Config of the ``signal`` node."""

    name: str = Field(min_length=1, max_length=200)
    """Name of the signal. One that arrived before the node waits is kept and taken; of several, the oldest."""
    timeout: Seconds | None = None
    """Time limit; without it the node waits without limit."""
    on_timeout: Literal["fail", "continue"] = "fail"
    """Result of a timeout: the node fails (``timed_out``), or succeeds with ``null``."""


class SignalOutput(RootModel[Any]):
    """The payload of the signal; ``null`` if there was none in time and ``on_timeout`` is ``continue``."""


class SignalNode(WaitingNode[SignalConfig]):
    """Waits for a named signal and gives its payload. ``NodeTimeoutError`` if none came in time."""

    node_type: ClassVar[str] = "signal"
    display_name: ClassVar[str] = "Signal"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Waits for a signal that someone sends to the run."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False)
    example: ClassVar[Mapping[str, Any]] = {"name": "payment-{{ input.order_id }}", "timeout": "1d"}
    Config = SignalConfig
    Output = SignalOutput

    @classmethod
    def awaited_signal(cls, node_id: str, config: Mapping[str, Any]) -> str | None:  # noqa: ARG003
        """Its ``name``."""
        return str(config.get("name", ANY_SIGNAL))

    def suspend(self, config: SignalConfig, ctx: NodeContext, now: float) -> Suspension:  # noqa: ARG002
        """Until the signal arrives or the time is over."""
        details = {"kind": "signal", "on_timeout": config.on_timeout}
        return Suspension(end_of(config.timeout, now), config.name, details)

    def resume(
        self,
        config: SignalConfig,
        suspension: Suspension,
        signal: Signal | None,
        now: float,  # noqa: ARG002
    ) -> object:
        """The payload; see the class."""
        if signal is not None:
            payload: object = signal.payload
            return payload
        if config.on_timeout == "continue":
            return None
        raise nothing_came(f"signal {suspension.signal!r}", config.timeout)

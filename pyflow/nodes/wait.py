"""The ``wait`` node: waits for a time, or until a moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, model_validator

from pyflow.core.duration import parse_duration
from pyflow.core.events import rfc3339
from pyflow.core.messages import show
from pyflow.core.suspension import Signal, Suspension
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import NodeConfig, NodeOutput, Seconds, TemplateText
from pyflow.nodes.waiting import WaitingNode
from pyflow_sdk.node import NodeContext

# RFC 3339 5.6. Python's own reader accepts far more: dates alone, week dates, times without an offset.
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> float:
    """The POSIX time (seconds) of an RFC 3339 date-time; ``ValueError`` for other text, also without an offset."""
    if not _DATE_TIME.fullmatch(text):
        raise ValueError(f"{show(text)} is not an RFC 3339 time with an offset, such as 2026-03-01T09:00:00+01:00")
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{show(text)} is not a time: {error}") from None


def _checked_time(text: str) -> str:
    parse_time(text)
    return text


class WaitConfig(NodeConfig):
    """Config of the ``wait`` node: one of the two."""

    duration: Seconds | None = None
    """Time to wait."""
    until: Annotated[str, AfterValidator(_checked_time)] | TemplateText | None = None
    """Until when: RFC 3339 with an offset. A time that has passed is no wait."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.duration is None) == (self.until is None):
            raise ValueError("give `duration` or `until`, one of them")
        return self


class WaitOutput(NodeOutput):
    """Output of the ``wait`` node."""

    waited_until: str
    """The time at which the wait was to end: RFC 3339, UTC."""


class WaitNode(WaitingNode[WaitConfig]):
    """Waits for a duration or until a time and gives ``{waited_until}``. Holds no worker meanwhile."""

    node_type: ClassVar[str] = "wait"
    display_name: ClassVar[str] = "Wait"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Waits for a duration, or until a time."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False)
    example: ClassVar[Mapping[str, Any]] = {"duration": "2h"}
    Config = WaitConfig
    Output = WaitOutput

    @classmethod
    def awaited_signal(cls, node_id: str, config: Mapping[str, Any]) -> None:
        """It waits for no signal."""

    def suspend(self, config: WaitConfig, ctx: NodeContext, now: float) -> Suspension:  # noqa: ARG002
        """Until the time has come."""
        until = parse_time(config.until) if config.until is not None else now + parse_duration(config.duration)
        return Suspension(until=until, details={"kind": "wait"})

    def resume(
        self,
        config: WaitConfig,  # noqa: ARG002
        suspension: Suspension,
        signal: Signal | None,  # noqa: ARG002
        now: float,
    ) -> dict[str, Any]:
        """``{waited_until}``."""
        return {"waited_until": rfc3339(now if suspension.until is None else suspension.until)}

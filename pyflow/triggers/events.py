"""The config of an ``event`` trigger in version 2: which events, a filter, mapping to the input, and absence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pyflow.core.duration import Duration
from pyflow.core.events import EventType
from pyflow.core.problems import suggest
from pyflow.documents.described import DescribedModel

#: Prefixes of the platform's own types, which no custom event has.
BUILT_IN_PREFIXES = ("run.", "node.", "workflow.", "trigger.", "webhook.")
#: Characters of a type.
MAX_TYPE = 128
#: Types that custom events may have, as a regular expression.
CUSTOM_TYPE = r"^(?!(run|node|workflow|trigger|webhook)\.)[A-Za-z0-9][A-Za-z0-9._:/-]*$"
#: Names of `trigger` in templates and filters of an event trigger.
FACTS = frozenset({"event", "absent"})
#: Runs that were started by events of runs that were started by events …: how many, one after another.
MAX_DEPTH = 16

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", re.ASCII)
#: Delivered to watchers, not kept in the log.
_NOT_STORED = frozenset({EventType.NODE_PROGRESS.value})
_BUILT_IN = frozenset(type.value for type in EventType) - _NOT_STORED


def is_custom_type(name: str) -> bool:
    """Return whether a custom event may have this type."""
    return len(name) <= MAX_TYPE and re.fullmatch(CUSTOM_TYPE, name, re.ASCII) is not None


def _checked_type(name: str) -> str:
    if name in _BUILT_IN or is_custom_type(name) or (name.startswith("webhook.") and _TYPE.fullmatch(name)):
        return name
    if name.endswith(".*") and name.removesuffix("*") in BUILT_IN_PREFIXES:
        return name
    if name in _NOT_STORED:
        raise ValueError(f"{name} is not kept in the log: nothing is started by it")
    if name.startswith(BUILT_IN_PREFIXES):
        near = suggest(name, _BUILT_IN)
        raise ValueError(f"is no type of events{f'; did you mean {near!r}?' if near else ''}")
    raise ValueError("a type is made of letters, digits, '.', '_', ':', '/', '-', at most 128")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Types = Annotated[
    list[str],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(min_length=1, max_length=32),
]
_Names = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=128)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(max_length=100),
]


class _Config(DescribedModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventPattern(_Config):
    """Which events are meant."""

    on: _Types
    """Types of events: ``run.succeeded``, ``run.*``, or types of custom events."""
    workflow: _Names = Field(default_factory=list)
    """Only events of these workflows; none: of any."""
    when: str | None = None
    """An expression over ``trigger.event``; false: the event is passed over."""

    @field_validator("on")
    @classmethod
    def _are_types(cls, value: Sequence[str]) -> list[str]:
        return [_checked_type(name) for name in value]

    def matches_type(self, type: str) -> bool:
        """Return whether events of this type are meant."""
        return any(
            type == name or (name.endswith(".*") and type.startswith(name.removesuffix("*"))) for name in self.on
        )


class ExpectConfig(_Config):
    """The event must come; the trigger fires when it has not."""

    within: Annotated[Duration, Field(ge=1)]
    """Maximum time after the arming event."""
    key: str | None = None
    """A template over ``trigger.event`` that is the same for an arming event and the one expected for it."""


def _as_pattern(value: Any) -> Any:
    return {"on": value} if isinstance(value, str | list) else value


class EventConfig(EventPattern):
    """The ``config`` of an ``event`` trigger."""

    input: dict[str, Any] | str | None = None
    """Templates over ``trigger``, which give the run's input. Default: ``{event: ...}``."""
    key: str | None = None
    """A template over ``trigger``: one run for each value, whatever the events are. Default: one for each event."""
    expect: ExpectConfig | None = None
    """The trigger fires when an event has not come."""
    after: Annotated[
        EventPattern | None,
        BeforeValidator(_as_pattern, json_schema_input_type=EventPattern | str | list[str] | None),
    ] = None
    """Which events arm it (with ``expect``). Default: each expected event arms it for the next one."""

    @model_validator(mode="after")
    def _expects(self) -> EventConfig:
        if self.after is not None and self.expect is None:
            raise ValueError("`after` has a meaning with `expect` only: say within which time the event must come")
        return self

    @property
    def arming(self) -> EventPattern:
        """Which events arm a trigger with ``expect``."""
        return self if self.after is None else self.after

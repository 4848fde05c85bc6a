"""The shapes of the log over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from events.cursor import MAX_LENGTH
from events.reading import EventFilter
from plumbing.rest.serializers import Strict
from runs.api.queries import LABEL
from runs.api.serializers import EventShape

#: The word that stands for the cursor at the end of the log.
NOW = "now"
_TYPE = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*(\.\*)?$"


class EventsFilter(Strict):
    """Filter of events. Several values of `type` or `workflow` match any of them; labels must all match."""

    type = serializers.ListField(
        child=serializers.RegexField(_TYPE, max_length=128),
        required=False,
        max_length=20,
        help_text="A type such as `run.failed`, or `run.*` for all that begin so.",
    )
    workflow = serializers.ListField(
        child=serializers.CharField(max_length=128), required=False, max_length=50, help_text="Name of the workflow."
    )
    run = serializers.UUIDField(required=False, help_text="Only events of this run.")
    label = serializers.ListField(  # type: ignore[assignment]
        child=serializers.RegexField(LABEL),
        required=False,
        max_length=10,
        help_text="`name:value` of the run. If repeated, a run must have all of them.",
    )
    since = serializers.DateTimeField(required=False, help_text="At or after this time (inclusive).")
    until = serializers.DateTimeField(required=False, help_text="Before this time (exclusive).")


class LogQuery(EventsFilter):
    """Query parameters of the log: the place after which reading continues, and a filter."""

    after = serializers.CharField(
        required=False,
        max_length=MAX_LENGTH,
        help_text="`next` of another page, or the `id` of an event of a stream. Without it, reading begins with the "
        f"oldest event that is kept; `{NOW}` is the end of the log.",
    )
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1000)


class EventLogShape(serializers.Serializer[Any]):
    """A page of the log of a tenant."""

    results = EventShape(many=True)
    next = serializers.CharField(help_text="The cursor to continue from, also after an empty page.")
    has_more = serializers.BooleanField(help_text="Whether there is another page now.")


class EventTypeShape(serializers.Serializer[Any]):
    """A type of events."""

    type = serializers.CharField()
    version = serializers.IntegerField(help_text="Of the schema. Fields may be added within a version.")
    description = serializers.CharField()
    stored = serializers.BooleanField(help_text="Whether it is kept in the log; streams deliver the others, too.")
    schema = serializers.DictField(help_text="JSON Schema (draft 2020-12) of an event of this type.")


class EventTypesShape(serializers.Serializer[Any]):
    """All types of events."""

    results = EventTypeShape(many=True)


def filter_of(query: dict[str, Any]) -> EventFilter:
    """Return the filter of a validated ``EventsFilter``."""
    labels = (label.partition(":") for label in query.get("label", ()))
    return EventFilter(
        types=tuple(query.get("type", ())),
        workflows=tuple(query.get("workflow", ())),
        run_id=query.get("run"),
        labels=tuple((name, value) for name, _, value in labels),
        since=query.get("since"),
        until=query.get("until"),
    )

"""Custom events over HTTP: our own shape, and CloudEvents 1.0 in the JSON format, one or a batch.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rest_framework import serializers

from plumbing.rest.formats import JSONParser
from plumbing.rest.serializers import Strict, validated
from pyflow.triggers.events import CUSTOM_TYPE, MAX_TYPE
from runs.api.serializers import EventShape
from runs.services.custom_events import MAX_DATA, MAX_EVENTS, CustomEvent

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
_TYPE_HELP = (
    "Letters, digits, `.`, `_`, `:`, `/`, `-`. It does not begin with `run.`, `node.`, `workflow.`, `trigger.` or "
    "`webhook.`, which are the platform's own types."
)


class CloudEventParser(JSONParser):
    """A CloudEvent in the structured mode."""

    media_type = CLOUD_EVENT


class CloudEventsParser(JSONParser):
    """A batch of CloudEvents."""

    media_type = CLOUD_EVENTS


class NewEvent(Strict):
    """A custom event."""

    type = serializers.RegexField(CUSTOM_TYPE, max_length=MAX_TYPE, trim_whitespace=False, help_text=_TYPE_HELP)
    data = serializers.DictField(  # type: ignore[assignment]
        required=False, default=dict, help_text=f"An object of at most {MAX_DATA // 1024} KiB as JSON."
    )
    id = serializers.CharField(
        required=False, max_length=256, help_text="An event that is sent again with the same `id` is the same event."
    )
    source = serializers.CharField(  # type: ignore[assignment]
        required=False, default="", allow_blank=True, max_length=512, help_text="Who sends it; ids are unique in it."
    )
    subject = serializers.CharField(required=False, default="", allow_blank=True, max_length=512)


class CloudEvent(NewEvent):
    """A CloudEvent 1.0 whose data is a JSON object. Extension attributes are not kept."""

    specversion = serializers.ChoiceField(["1.0"])
    id = serializers.CharField(max_length=256)
    source = serializers.CharField(max_length=512)
    time = serializers.DateTimeField(required=False)
    datacontenttype = serializers.RegexField(r"^application/(.+\+)?json\b", required=False, max_length=256)
    dataschema = serializers.CharField(required=False, max_length=2048)


class ReceivedShape(serializers.Serializer[Any]):
    """Events that are in the log now."""

    results = EventShape(many=True)


#: The attributes of CloudEvents that are read; others are extensions, which the specification lets anybody add.
_KNOWN = frozenset(CloudEvent().fields)


def events_of(content_type: str, data: Any) -> list[CustomEvent]:
    """Return the events of a request's body. Raises ``ValidationError``."""
    if content_type == CLOUD_EVENTS:
        if not isinstance(data, list) or not 1 <= len(data) <= MAX_EVENTS:
            raise serializers.ValidationError(f"A batch is a list of 1 to {MAX_EVENTS} CloudEvents.")
        return [_cloud_event(item) for item in data]
    if content_type == CLOUD_EVENT:
        return [_cloud_event(data)]
    return [_custom(validated(NewEvent, data))]


def _cloud_event(data: Any) -> CustomEvent:
    if isinstance(data, Mapping):
        if "data_base64" in data:
            raise serializers.ValidationError({"data_base64": "Binary data is not accepted: send JSON as `data`."})
        data = {name: value for name, value in data.items() if name in _KNOWN}
    return _custom(validated(CloudEvent, data))


def _custom(values: Mapping[str, Any]) -> CustomEvent:
    time: datetime | None = values.get("time")
    names = ("type", "data", "source", "subject")
    return CustomEvent(id=values.get("id"), time=time, **{name: values[name] for name in names})

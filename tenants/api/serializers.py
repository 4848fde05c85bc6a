"""Shapes that every part of the API builds on."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import QueryDict
from rest_framework import serializers


class Strict(serializers.Serializer[Any]):
    """Refuses unknown fields, because a misspelt one must not be taken for one that was left out.

    And values in a body that are of another type than the OpenAPI document says, which DRF would turn into that one.
    """

    def to_internal_value(self, data: Any) -> Any:
        """The fields, if there are no others."""
        if isinstance(data, dict):
            unknown = data.keys() - self.fields.keys()
            if unknown:
                known = ", ".join(f"`{name}`" for name in self.fields)
                raise serializers.ValidationError(dict.fromkeys(sorted(unknown), f"Unknown field; there is {known}."))
        if isinstance(data, QueryDict):
            empty = [name for name, field in self.fields.items() if data.get(name) == "" and not _may_be_empty(field)]
            if empty:  # DRF would take each for one that was left out, and a filter for none
                raise serializers.ValidationError(dict.fromkeys(empty, "It is empty: give it a value or leave it out."))
        elif isinstance(data, dict):
            wrong = {name: _mistyped(field, data[name]) for name, field in self.fields.items() if name in data}
            if wrong := {name: errors for name, errors in wrong.items() if errors}:
                raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


class NoQuery(Strict):
    """No parameters."""


def _may_be_empty(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return isinstance(field, serializers.ListField) or (isinstance(field, serializers.CharField) and field.allow_blank)


def _mistyped(field: serializers.Field[Any, Any, Any, Any], value: Any) -> Any:
    """What is to be said of a value that DRF would convert, in the shape of its errors; nothing if it would not."""
    if isinstance(value, list) and isinstance(field, serializers.ListField):
        return {index: errors for index, item in enumerate(value) if (errors := _mistyped(field.child, item))}
    if isinstance(value, dict) and isinstance(field, serializers.DictField):
        return {name: errors for name, item in value.items() if (errors := _mistyped(field.child, item))}
    if isinstance(field, serializers.MultipleChoiceField):
        return None  # it takes nothing but a list
    for kind, (types, message) in _TYPES.items():
        if isinstance(field, kind) and value is not None and not isinstance(value, types):
            return [message]
    if isinstance(field, serializers.IntegerField) and isinstance(value, bool):
        return ["A valid integer is required."]
    return None


#: What JSON has for a field. (An integer may be written as 1.0.)
_TYPES: dict[type[serializers.Field[Any, Any, Any, Any]], tuple[tuple[type, ...], str]] = {
    serializers.CharField: ((str,), "Not a valid string."),
    serializers.ChoiceField: ((str,), "Not a valid string."),
    serializers.BooleanField: ((bool,), "Must be a valid boolean."),
    serializers.IntegerField: ((int, float), "A valid integer is required."),
}


def validated(shape: type[Strict], data: Any) -> Any:
    """What a shape makes of data; ``ValidationError`` with everything that is wrong with it."""
    return _reader(shape).run_validation(data)


@cache
def _reader(shape: type[Strict]) -> Strict:
    """One for all requests: it keeps nothing of what it reads, and DRF copies all fields for each that is made."""
    return shape()

"""Shapes that every part of the API builds on."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import QueryDict
from rest_framework import serializers


class Strict(serializers.Serializer[Any]):
    """Refuses unknown fields: a misspelt one must not be taken for one that was left out."""

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
        return super().to_internal_value(data)


class NoQuery(Strict):
    """No parameters."""


def _may_be_empty(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return isinstance(field, serializers.CharField | serializers.ListField)


def validated(shape: type[Strict], data: Any) -> Any:
    """What a shape makes of data; ``ValidationError`` with everything that is wrong with it."""
    return _reader(shape).run_validation(data)


@cache
def _reader(shape: type[Strict]) -> Strict:
    """One for all requests: it keeps nothing of what it reads, and DRF copies all fields for each that is made."""
    return shape()

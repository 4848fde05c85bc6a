"""Shapes that every part of the API builds on."""

from __future__ import annotations

from typing import Any

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
        return super().to_internal_value(data)


def validated(shape: type[Strict], data: Any) -> Any:
    """What a shape makes of data; ``ValidationError`` with everything that is wrong with it."""
    read = shape(data=data)
    read.is_valid(raise_exception=True)
    return read.validated_data

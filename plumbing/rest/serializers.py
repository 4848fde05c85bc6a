"""Shapes that every part of the API builds on."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework import serializers

from pyflow.core.problems import suggest
from pyflow.core.wording import hint


class Strict(serializers.Serializer[Any]):
    """Refuses unknown fields, because a misspelt one must not be taken for one that was left out.

    And values in a body that are of another type than the OpenAPI document says, which DRF would turn into that one.
    """

    def to_internal_value(self, data: Any) -> Any:
        """The fields, if there are no others. All that is wrong is said at once."""
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        wrong: dict[Any, Any] = {
            name: self._unknown(name) for name in sorted(data.keys() - self.fields.keys(), key=str)
        }
        if isinstance(data, QueryDict):
            for name, field in self.fields.items():
                if data.get(name) == "" and not _may_be_empty(field):
                    # DRF would take it for one that was left out, and a filter for none.
                    wrong[name] = "It is empty: give it a value or leave it out."
        else:
            mistyped = {name: _mistyped(field, data[name]) for name, field in self.fields.items() if name in data}
            wrong |= {name: errors for name, errors in mistyped.items() if errors}
        accepted: Any = None
        try:
            accepted = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found: Any = error.detail  # by field
            wrong = found | wrong
        if wrong:
            raise serializers.ValidationError(wrong)
        return accepted

    def _unknown(self, name: object) -> str:
        if not self.fields:
            return self.takes_nothing
        near = suggest(str(name), self.fields)
        known = ", ".join(f"`{field}`" for field in self.fields)
        return f"Unknown field{hint(near)}: it is none of {known}."

    #: What is said of any field where there are none.
    takes_nothing: ClassVar[str] = "Unknown field: there are none here."


class NoQuery(Strict):
    """No parameters."""

    takes_nothing = "This request takes no parameters. Leave it out."


class NoBody(Strict):
    """An operation without a request body; any field is refused."""

    takes_nothing = "This request takes no body. Leave it out."


def _may_be_empty(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return isinstance(field, serializers.ListField) or (isinstance(field, serializers.CharField) and field.allow_blank)


def _mistyped(field: serializers.Field[Any, Any, Any, Any], value: Any) -> Any:
    """Return the error for a value that DRF would convert, in the shape of its errors; ``None`` if there is none."""
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
    """Validate data with a serializer. Raises ``ValidationError`` with all errors."""
    return _reader(shape).run_validation(data)


@cache
def _reader(shape: type[Strict]) -> Strict:
    """One for all requests: it keeps nothing of what it reads, and DRF copies all fields for each that is made."""
    return shape()

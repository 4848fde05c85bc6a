"""Shapes of secrets in the API. Values are written, never shown."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from plumbing.rest.conditional import etag
from plumbing.rest.pagination import PageQuery
from plumbing.rest.serializers import Strict
from pyflow.core.redaction import MIN_LENGTH
from secrets_vault.models import MAX_VALUE_BYTES, NAME_PATTERN, Secret, SecretVersion

_NAME_HELP = "A capital letter, followed by capital letters, digits and `_`; at most 128 characters."
_VALUE_HELP = f"UTF-8 text of {MIN_LENGTH} characters to {MAX_VALUE_BYTES:,} bytes. It is never shown again."


class SecretValueField(serializers.CharField):
    """A value: kept to the character, never trimmed, never shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            trim_whitespace=False,
            min_length=MIN_LENGTH,
            write_only=True,
            help_text=_VALUE_HELP,
            style={"input_type": "password"},
            **options,
        )

    def to_internal_value(self, data: Any) -> str:
        """The text, if it is text and not too long. The messages repeat nothing of it."""
        if not isinstance(data, str):
            raise serializers.ValidationError("A value is text: encode anything else, for example as JSON or base64.")
        try:
            size = len(data.encode())
        except UnicodeEncodeError:
            raise serializers.ValidationError("The value is not UTF-8 text.") from None
        if size > MAX_VALUE_BYTES:
            raise serializers.ValidationError(f"The value has more than {MAX_VALUE_BYTES:,} bytes.")
        return data


class CreateSecret(Strict):
    """A new secret."""

    name = serializers.RegexField(NAME_PATTERN, max_length=128, trim_whitespace=False, help_text=_NAME_HELP)
    value = SecretValueField()
    description = serializers.CharField(required=False, default="", allow_blank=True, max_length=1000)


class ReplaceSecret(Strict):
    """A new value of a secret. Without a description, the old one is kept."""

    value = SecretValueField()
    description = serializers.CharField(required=False, default=None, allow_blank=True, max_length=1000)


class RotateSecret(Strict):
    """The new value of a secret whose earlier values are destroyed."""

    value = SecretValueField()


class SecretsQuery(PageQuery):
    """Query parameters of the list of secrets."""

    search = serializers.CharField(required=False, default="", allow_blank=True, help_text="Part of the secret's name.")


class SecretShape(serializers.Serializer[Any]):
    """A secret as the API shows it: everything but the value."""

    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    version = serializers.IntegerField(help_text="Number of the current value.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField(help_text="When the value was last replaced.")


class SecretListShape(serializers.Serializer[Any]):
    """A page of secrets, by name."""

    results = SecretShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class SecretVersionShape(serializers.Serializer[Any]):
    """One value that a secret has or had."""

    number = serializers.IntegerField()
    current = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    destroyed_at = serializers.DateTimeField(
        allow_null=True, help_text="Time at which the value was permanently destroyed."
    )


class SecretVersionListShape(serializers.Serializer[Any]):
    """A page of versions, the newest first."""

    results = SecretVersionShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


def show(secret: Secret) -> dict[str, Any]:
    """``SecretShape`` of a row."""
    return {
        "name": secret.name,
        "description": secret.description,
        "version": secret.version,
        "created_at": secret.created_at,
        "updated_at": secret.updated_at,
    }


def show_version(version: SecretVersion, secret: Secret) -> dict[str, Any]:
    """``SecretVersionShape`` of a row."""
    return {
        "number": version.number,
        "current": version.number == secret.version,
        "created_at": version.created_at,
        "destroyed_at": version.destroyed_at,
    }


def tag(secret: Secret) -> str:
    """The entity tag of a secret: of its id, its version and when that was made."""
    return etag(secret.pk, secret.version, secret.updated_at.isoformat())

"""Secrets for tests, and every place where the value of one must not be."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

from django.apps import apps
from django.db import connection

from secrets_vault.models import Secret
from secrets_vault.services import create_secret
from tenants.access import Actor
from tenants.models import Tenant

SECRETS = "/api/v1/secrets"


def make_secret(tenant: Tenant, name: str = "API_KEY", value: str = "sesame-open-1", description: str = "") -> Secret:
    """A stored secret."""
    return create_secret(name=name, value=value, description=description, by=Actor.system(tenant.pk, "a test"))


def forms_of(value: str) -> set[str]:
    """A value as it may look in a record: plain, base64, percent-encoded, JSON-escaped, in hexadecimal."""
    raw = value.encode()
    percent = quote(value, safe="")
    forms = {value, json.dumps(value)[1:-1], percent, quote(percent, safe=""), raw.hex(), raw.hex().upper()}
    forms.add(re.sub("%..", lambda escape: escape[0].lower(), percent))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {encode(raw).decode(), encode(raw).decode().rstrip("=")}
    return forms


def pieces_of(value: str) -> set[str]:
    """What stands in the base64 of a longer text with the value in its midst, at each of the three alignments."""
    raw = value.encode()
    return {
        encode(b"\0" * offset + raw + b"\0" * 3).decode()[4 if offset else 0 : -6]
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for offset in range(3)
    }


def database_text() -> Iterator[tuple[str, str]]:
    """Every table's name with the text of every row and column in it; bytes as hexadecimal and, if they are, text."""
    with connection.cursor() as cursor:
        for table in sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)}):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                yield table, "\n".join(_texts(row))


def _texts(row: tuple[object, ...]) -> Iterator[str]:
    for value in row:
        if isinstance(value, bytes | memoryview):
            yield bytes(value).hex()
            yield bytes(value).decode("utf-8", "replace")
        else:
            yield str(value)

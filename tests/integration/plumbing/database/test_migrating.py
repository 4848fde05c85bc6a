"""`migrate` takes the time that it needs."""

import pytest
from django.core.management.sql import emit_pre_migrate_signal
from django.db import connection

pytestmark = pytest.mark.fleet


def _limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_migration_may_be_idle_in_its_transaction():
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '7s'")
    assert _limit() == "7s"
    emit_pre_migrate_signal(0, False, "default")
    assert _limit() == "0"

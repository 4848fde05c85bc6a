"""Statements that are prepared."""

import pytest
from django.db import connection, transaction
from django.db.utils import DataError

from plumbing.database.statements import prepared

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def ask(value: object) -> object:
    with prepared() as cursor:
        cursor.execute("SELECT coalesce(%s, 'none')", [value])
        [answer] = cursor.fetchone()
    return answer


@pytest.mark.fleet
def test_postgresql_keeps_a_statement_that_is_asked_again_and_again():
    assert [ask(f"value {number}") for number in range(10)] == [f"value {number}" for number in range(10)]

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT coalesce(%'")
        assert cursor.fetchone() == (1,)


def test_values_are_never_part_of_a_statement():
    for _ in range(10):
        assert ask("'); DROP TABLE runs_run; --") == "'); DROP TABLE runs_run; --"


def test_what_goes_wrong_is_an_error_of_djangos_and_harms_no_later_one():
    for _ in range(10):
        if connection.vendor == "postgresql":
            with pytest.raises(DataError), transaction.atomic(), prepared() as cursor:
                cursor.execute("SELECT %s::integer", ["no number"])
        assert ask("fine") == "fine"


def test_statements_are_counted_and_logged_with_their_values(django_assert_num_queries):
    with django_assert_num_queries(1) as asked:
        ask("seen")
    assert "seen" in asked.captured_queries[0]["sql"]

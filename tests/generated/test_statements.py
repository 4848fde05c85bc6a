"""No operation asks the database more often where there are more rows.

How often each one does is pinned in its own file below `tests/api`.
"""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants import principals
from tests.support.operations import Operation, operations
from tests.support.worlds import World, grow

pytestmark = pytest.mark.database


def statements(world: World, operation: Operation) -> list[str]:
    """What a valid request asks, once the caller is known. Its effects are undone."""
    for _ in range(2):
        with transaction.atomic():
            with CaptureQueriesContext(connection) as context:
                assert world.call(operation).status_code < 500
            transaction.set_rollback(True)
    return [query["sql"] for query in context.captured_queries]


def test_thirty_rows_take_as_many_statements_as_one(ours: World, monkeypatch):
    monkeypatch.setattr(principals, "CACHE_SECONDS", 3600.0)  # on a slow machine, too
    closed = {id: operation for id, operation in operations().items() if not operation.is_open}
    few = {id: statements(ours, operation) for id, operation in closed.items()}
    grow(ours, 29)
    for id, operation in closed.items():
        many = statements(ours, operation)
        # Fewer, if what is known of the caller had to be looked up again before.
        assert len(many) <= len(few[id]), "\n".join([f"{id}: {len(few[id])} became {len(many)}", *many])

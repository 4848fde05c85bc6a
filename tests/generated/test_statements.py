"""No operation asks the database more often where there are more rows.

How often each one does is pinned in its own file below `tests/api`.
"""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants.scoping import SCOPE
from tests.support.factories.worlds import FullTenant, grow
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations

pytestmark = [pytest.mark.api, made_of_rows]


def statements(world: FullTenant, operation: Operation) -> list[str]:
    """What a valid request asks once it is in its tenant (the caller may be known already, or not). It is undone."""
    with transaction.atomic():
        with CaptureQueriesContext(connection) as context:
            assert world.call(operation).status_code < 500
        transaction.set_rollback(True)
    asked = [query["sql"] for query in context.captured_queries]
    entered = [place for place, statement in enumerate(asked) if SCOPE in statement]
    return asked[entered[-1] :] if entered else asked


def test_thirty_rows_take_as_many_statements_as_one(ours: FullTenant):
    closed = {id: operation for id, operation in operations().items() if not operation.is_open}
    few = {id: statements(ours, operation) for id, operation in closed.items()}
    grow(ours, 29)
    for id, operation in closed.items():
        many = statements(ours, operation)
        assert len(many) == len(few[id]), "\n".join([f"{id}: {len(few[id])} became {len(many)}", *many])

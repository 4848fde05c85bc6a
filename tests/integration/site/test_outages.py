"""While PostgreSQL is away every answer is a problem that says when to come again: 503, never 500.

A proxy stands between this process and the server: it refuses, resets connections in the middle of a request, and loses
the answer to a commit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client

from pyflow_site.outages import is_outage
from pyflow_site.problems import RETRY_SECONDS
from tests.support.api import Api, assert_problem
from tests.support.factories.worlds import FullTenant, make_world
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations
from tests.support.servers.proxy import Proxy, proxying

pytestmark = [pytest.mark.fleet, made_of_rows]
#: They ask nothing of the database, or answer what a probe understands.
UNTOUCHED = {"auth_jwks": 200, "health_live": 200, "health_ready": 503}
READ, WRITE = "workflows_list", "workflows_create"


@pytest.fixture
def world(transactional_db) -> FullTenant:
    return make_world("outage")


@pytest.fixture
def proxy(world: FullTenant) -> Iterator[Proxy]:
    """Between this thread's connection and the server."""
    real = int(connection.settings_dict["PORT"])
    with proxying(real) as proxy, connected(HOST="127.0.0.1", PORT=str(proxy.port)):
        yield proxy
        proxy.heal()


@contextmanager
def connected(pool: Any = False, **settings: str) -> Iterator[None]:
    """Connect in another way, from the next query on."""
    before = dict(connection.settings_dict)
    _forget()
    options = before["OPTIONS"] | {"pool": pool}
    connection.settings_dict.update(settings | {"OPTIONS": options})
    try:
        yield
    finally:
        _forget()
        connection.settings_dict.update(before)


def _forget() -> None:
    connection.close()
    connection.close_pool()


def assert_away(response: HttpResponse) -> None:
    problem = assert_problem(response, 503, "database_unavailable")
    assert response.headers["Retry-After"] == str(RETRY_SECONDS)
    assert "127.0.0.1" not in problem["detail"]


def asked() -> list[Operation]:
    return [operation for id, operation in operations().items() if id not in UNTOUCHED]


def test_every_operation_says_that_the_database_is_away(world: FullTenant, proxy: Proxy):
    proxy.refuse()
    for operation in asked():
        connection.close()
        assert_away(world.call(operation))
        assert "503" in operation.spec["responses"], operation.id
    for id, status in UNTOUCHED.items():
        assert world.call(operations()[id]).status_code == status, id
    proxy.heal()
    connection.close()
    assert world.call(operations()[READ]).status_code == 200


@pytest.mark.parametrize("statement", [1, 4])
def test_a_connection_that_is_lost_in_the_middle_is_no_fault_of_ours(world: FullTenant, proxy: Proxy, statement: int):
    """Before the first, the second, … statement of each request."""
    lost = 0
    for operation in asked():
        count = 0

        def lose(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal count
            count += 1
            if count == statement:
                proxy.reset()
            return execute(sql, params, many, context)

        connection.close()
        with connection.execute_wrapper(lose):
            response = world.call(operation)
        if count >= statement:
            assert_away(response)
            lost += 1
    assert lost > 30


def test_an_answer_to_a_commit_that_is_lost_is_no_fault_of_ours(world: FullTenant, proxy: Proxy):
    connection.close()
    proxy.lose_commits(1)
    assert_away(world.call(operations()["workflows_patch"]))
    assert proxy.lost == 1


def test_a_pool_without_a_free_connection_is_no_fault_of_ours(world: FullTenant):
    """The requests wait for one as long as the pool's `timeout`."""
    with connected(pool={"min_size": 1, "max_size": 1, "timeout": 0.1}):
        connection.ensure_connection()
        taken = connection.connection
        connection.connection = None  # as that of another thread
        try:
            for id in (READ, WRITE):
                assert_away(world.call(operations()[id]))
        finally:
            taken._pool.putconn(taken)
        assert world.call(operations()[READ]).status_code == 200


def test_a_server_without_a_free_connection_is_no_fault_of_ours(world: FullTenant):
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE pyflow_crowd LOGIN CONNECTION LIMIT 0")
    try:
        with connected(USER="pyflow_crowd"):
            for id in (READ, WRITE):
                assert_away(world.call(operations()[id]))
            with pytest.raises(OperationalError) as caught:
                connection.ensure_connection()
            assert caught.value.__cause__.sqlstate in {None, "53300"}
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP ROLE pyflow_crowd")


def test_a_page_of_the_admin_says_it_as_well(world: FullTenant, proxy: Proxy):
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    for away in (False, True):
        if away:
            proxy.refuse()
            connection.close()
        response = client.get("/admin/")
        if away:
            assert_away(response)
        else:
            assert response.status_code == 200


def test_an_outage_is_no_failed_attempt(world: FullTenant, proxy: Proxy):
    """Or callers would be refused for a minute after it."""
    proxy.refuse()
    for _ in range(40):
        connection.close()
        assert_away(Api(world.key).get("/api/v1/workflows"))
    proxy.heal()
    connection.close()
    assert Api(world.key).get("/api/v1/workflows").status_code == 200


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM no_such_table", "SELECT 1/0", "SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)"]
)
def test_a_mistake_of_ours_is_no_outage(transactional_db, sql: str):
    with pytest.raises(Exception) as caught, connection.cursor() as cursor:  # noqa: PT011 - of several classes
        cursor.execute(sql)
    assert not is_outage(caught.value)

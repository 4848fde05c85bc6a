"""Every address of the API: `HEAD` is `GET` without its body, `OPTIONS` lists the methods, queries are checked."""

from collections import defaultdict

import pytest
from django.db import transaction

from tests.support.api import Api, assert_problem
from tests.support.factories.worlds import FullTenant
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations

pytestmark = made_of_rows
BY_PATH: dict[str, list[Operation]] = defaultdict(list)
for operation in operations().values():
    BY_PATH[operation.path].append(operation)
READ = [id for id, operation in operations().items() if operation.method == "GET"]
#: How a header of two answers to the same question may differ.
OWN = {"X-Request-ID", "RateLimit", "Content-Length"}


@pytest.mark.parametrize("id", READ)
def test_head_is_answered_as_get_without_its_body(ours: FullTenant, id: str):
    operation = operations()[id]
    got = ours.call(operation)
    asked = ours.api.send("HEAD", ours.path(operation) + ours.query(operation))
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert {name: value for name, value in asked.headers.items() if name not in OWN} == {
        name: value for name, value in got.headers.items() if name not in OWN
    }


@pytest.mark.parametrize("id", READ)
def test_head_needs_what_get_needs(ours: FullTenant, id: str):
    operation = operations()[id]
    address = ours.path(operation) + ours.query(operation)
    for api in (Api(), Api(ours.narrow)):
        assert api.send("HEAD", address).status_code == api.get(address).status_code


@pytest.mark.parametrize("path", BY_PATH)
def test_options_lists_the_methods(ours: FullTenant, path: str):
    """Whoever has a credential may ask, also for what is not there; it says nothing of the tenant."""
    first = BY_PATH[path][0]
    methods = {operation.method for operation in BY_PATH[path]} | {"OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    response = ours.api.send("OPTIONS", ours.path(first))
    assert (response.status_code, response.content) == (200, b"")
    assert set(response.headers["Allow"].split(", ")) == methods | {"OPTIONS"} | (
        {"HEAD"} if "GET" in methods else set()
    )
    assert Api(ours.narrow).send("OPTIONS", ours.path(first)).status_code == 200
    assert Api().send("OPTIONS", ours.path(first)).status_code == (200 if first.is_open else 401)


@pytest.mark.parametrize("id", operations())
def test_an_unknown_parameter_of_the_query_is_refused(ours: FullTenant, id: str):
    operation = operations()[id]
    with transaction.atomic():
        problem = assert_problem(ours.call(operation, more="colour=red"), 422, "input_invalid")
        transaction.set_rollback(True)
    assert [error["pointer"] for error in problem["errors"]] == ["/colour"]
    assert "422" in operation.spec["responses"]


WITHOUT_BODY = [
    id
    for id, operation in operations().items()
    if operation.method not in {"GET", "HEAD"} and "requestBody" not in operation.spec
]


@pytest.mark.parametrize("id", WITHOUT_BODY)
def test_a_body_that_nobody_reads_is_refused(ours: FullTenant, id: str):
    """`{"reason": "…"}` with a verb is meant to do something: it is not ignored."""
    operation = operations()[id]
    with transaction.atomic():
        response = ours.api.send(operation.method, ours.path(operation) + ours.query(operation), {"reason": "none"})
        problem = assert_problem(response, 422, "input_invalid")
        transaction.set_rollback(True)
    [error] = problem["errors"]
    assert error["pointer"] == ("" if operation.id in {"workflows_delete", "versions_delete"} else "/reason")
    assert "takes no body" in error["detail"]

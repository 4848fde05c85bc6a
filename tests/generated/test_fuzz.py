"""Requests that Schemathesis makes up from the OpenAPI document: every answer is one that the document has.

CI asks a few of each operation, the same every time; ``make fuzz`` asks other ones, more than ten thousand."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.operations import Operation, operations
from tests.support.worlds import World

pytestmark = pytest.mark.database
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LONG = os.environ.get("PYFLOW_FUZZ_EXAMPLES", "")
AMOUNT = settings(
    max_examples=int(LONG or 4),
    derandomize=not LONG,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
    # Documents are large, and a schema of one is slow to draw from.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def schema(django_db_setup, django_db_blocker) -> Iterator[Any]:
    """The document, as the application itself hands it out. Its requests leave the test's connection open."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    with django_db_blocker.unblock():
        loaded = schemathesis.openapi.from_wsgi("/api/v1/schema?format=json", WSGIHandler())
    yield loaded
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture(scope="module")
def asked() -> Iterator[list[str]]:
    """The operations of all cases."""
    cases: list[str] = []
    yield cases
    print(f"\n{len(cases)} cases of {len(set(cases))} operations")


def cases(schema: Any, operation: Operation, worlds: tuple[World, World]) -> st.SearchStrategy[Case]:
    """Valid and invalid requests with either tenant's key, about things of either tenant or of nobody."""
    found = schema[operation.path][operation.method]
    parameters = {item["name"] for item in operation.parameters("path")}
    named = [{name: world.usual(operation, name) for name in parameters} for world in worlds]
    keys = [{} if operation.is_open else {"Authorization": f"Bearer {world.key}"} for world in worlds]
    return st.one_of(
        found.as_strategy(generation_mode=mode, headers=headers, path_parameters=names)
        for mode in GenerationMode
        for headers in keys
        for names in (*named, None)
    )


@pytest.mark.parametrize("collection", sorted({operation.collection for operation in operations().values()}))
def test_every_answer_is_one_that_the_document_has(
    ours: World, theirs: World, schema: Any, asked: list[str], subtests: pytest.Subtests, collection: str
):
    for operation in operations().values():
        if operation.collection == collection:
            with subtests.test(operation.id):
                ask(cases(schema, operation, (ours, theirs)), asked)


def ask(cases: st.SearchStrategy[Case], asked: list[str]) -> None:
    """Ask; what a case changes is undone."""

    @AMOUNT
    @given(case=cases)
    def ask_one(case: Case) -> None:
        asked.append(case.operation.definition.raw["operationId"])
        with transaction.atomic():
            case.call_and_validate(checks=CHECKS)
            transaction.set_rollback(True)

    ask_one()

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
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    not_a_server_error,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)

from tests.support.factories.worlds import FullTenant
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations
from workflows.documents import RESERVED_NAMES

pytestmark = [pytest.mark.api, pytest.mark.vendor("each vendor refuses other values"), made_of_rows]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    missing_required_header,
    unsupported_method,
    allow_header_conformance,
]
#: What may answer 200 to what the document does not allow.
TAKES_ANYTHING = {"workflows_validate"}  # its answer is the verdict
#: What may refuse what is well-formed, besides cursors and tags (`If-Match`) that there are not.
CHOOSY = {
    "api_keys_create",  # a time that has passed
    "audit_verify",  # one of `after` and `hash` without the other
    "auth_refresh",  # a text with NUL
    "auth_revoke",  # the same
    "auth_token",  # the same
    "events_create",  # data with NUL in a text
    "events_list",  # an `after` that is no cursor, a text with NUL or of nothing but spaces
    "grants_create",  # neither a member nor a role, or both
    "invitations_accept",  # a short password
    "invitations_create",  # the last bytes of an address
    "runs_actions",  # neither runs nor a filter, or both
    "runs_read",  # fields that there are not
    "runs_rerun",  # a node that there is not
    "runs_signal",  # a payload with NUL in a text
    "runs_start",  # what the workflow's inputs do not allow
    "runs_start_batch",
    "schedules_backfill",  # an end before its beginning, or in the future
    "secrets_create",  # a name that is taken
    "usage_read",  # an end before its beginning
    "webhooks_create",  # a text that is no URL, or leads where nothing is sent to
    "versions_create",  # documents
    "versions_put",
    "workflows_create",
    "workflows_dry_run",  # inputs, names that are also verbs
    "workflows_dry_run_document",
    "workflows_patch",
    "workflows_put",
    "workflows_validate",
}
#: What is revoked by a DELETE can still be read, as that.
KEPT = {"api_keys_read", "invitations_read"}
# Not `ignored_auth`: it asks with credentials of its own; tests/generated/test_access.py has that matrix.
LONG = os.environ.get("PYFLOW_TEST_FUZZ_EXAMPLES", "")
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


def cases(schema: Any, operation: Operation, worlds: tuple[FullTenant, FullTenant]) -> st.SearchStrategy[Case]:
    """Valid and invalid requests with either tenant's key, about things of either tenant or of nobody."""
    found = schema[operation.path][operation.method]
    parameters = {item["name"] for item in operation.parameters("path")}
    named = [{name: world.usual(operation, name) for name in parameters} for world in worlds]
    keys = [{} if operation.is_open else {"Authorization": f"Bearer {world.key}"} for world in worlds]
    drawn = st.one_of(
        found.as_strategy(generation_mode=mode, headers=headers, path_parameters=names)
        for mode in GenerationMode
        for headers in keys
        for names in (*named, None)
    )
    # Those name other operations.
    return drawn.filter(lambda case: case.path_parameters.get("name") not in RESERVED_NAMES)


def checks_of(case: Case) -> list[Any]:
    """All checks, and what holds for the operation."""
    operation = operations()[id_of(case)]
    takes = {item["name"] for place in ("query", "header") for item in operation.parameters(place)}
    more = [] if operation.id in TAKES_ANYTHING else [refused_anyway]
    return (
        CHECKS + more + ([] if operation.id in CHOOSY or takes & {"cursor", "If-Match"} else [positive_data_acceptance])
    )


def refused_anyway(context: Any, response: Any, case: Case) -> bool | None:
    """Data that the document does not allow is refused; a caller that has read another state gets that error first."""
    return None if response.status_code == 412 else negative_data_rejection(context, response, case)


def gone_for_good(context: Any, response: Any, case: Case) -> bool | None:
    """What was deleted is not there any more, unless it is kept."""
    return None if id_of(case) in KEPT else use_after_free(context, response, case)


def id_of(case: Case) -> str:
    """The operation's id."""
    return str(case.operation.definition.raw["operationId"])


@pytest.mark.parametrize("collection", sorted({operation.collection for operation in operations().values()}))
def test_every_answer_is_one_that_the_document_has(
    ours: FullTenant, theirs: FullTenant, schema: Any, asked: list[str], subtests: pytest.Subtests, collection: str
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
        asked.append(id_of(case))
        with transaction.atomic():
            case.call_and_validate(checks=checks_of(case))
            transaction.set_rollback(True)

    ask_one()


@pytest.mark.parametrize("tenant", ["ours", "theirs"])
def test_what_an_answer_names_can_be_asked_for_next(
    ours: FullTenant, theirs: FullTenant, schema: Any, asked: list[str], tenant: str
):
    key = {"ours": ours, "theirs": theirs}[tenant].key

    class Machine(schema.as_state_machine()):
        """Operations in a row, by the links between them; what they change is undone at the end."""

        def setup(self) -> None:
            self.undone = transaction.atomic()
            self.undone.__enter__()

        def teardown(self) -> None:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            asked.append(id_of(case))
            return {"headers": {"Authorization": f"Bearer {key}"}}

        def validate_response(self, response: Any, case: Case, **options: Any) -> None:
            case.validate_response(
                response, checks=[*CHECKS, gone_for_good], transport_kwargs=options, recorder=self.recorder
            )

    Machine.run(settings=settings(AMOUNT, stateful_step_count=6))

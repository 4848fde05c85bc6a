"""Two tenants with one of everything: nothing of the one is in any answer to the other, nor in how it is refused.

A test goes through all operations itself: the two tenants cost more than the requests.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from plumbing.database.dialect import is_postgresql
from tests.support.factories.calls import CALLS, Call
from tests.support.factories.worlds import NOT_FREE, OWNED, UUIDS, FullTenant, filled, unmarked
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations

pytestmark = made_of_rows
#: Of tests that row-level security could fail as well as pass; the others run where it hides no mistake, on SQLite.
on_both = pytest.mark.vendor("SQLite has no row-level security behind the managers")
CANARY, NOBODY = "canaryq7x", "nobodyq7x"  # as long as one another, so that what names them is, too
CLOSED = [operation for operation in operations().values() if not operation.is_open]
#: What differs from request to request.
OF_THE_REQUEST = {"X-Request-ID", "RateLimit"}
#: Their answers are the same for every tenant, or have only numbers.
IMPERSONAL = {
    "audit_verify", "auth_jwks", "auth_tickets", "event_types_list",
    "health_live", "health_ready", "nodes_list", "nodes_read", "plugins_list",
    "quotas_read",
    "runs_signal", "schedules_backfill", "schedules_fire", "schedules_preview", "secret_versions_list",
    "secrets_create", "usage_read", "workflows_schema",
    "deliveries_list", "deliveries_redeliver", "webhooks_redeliver", "webhooks_test",
}  # fmt: skip


def disguise(theirs: FullTenant) -> Callable[[str], str]:
    """What replaces each name of theirs in a text by one, as long and as well-formed, that nobody has."""
    ids = {found for value in theirs.names.values() for found in UUIDS.findall(value)}
    names = {id: str(UUID(int=UUID(id).int ^ 1 << 40)) for id in ids}
    names |= {CANARY: NOBODY, CANARY.upper(): NOBODY.upper()}
    pattern = re.compile("|".join(names))
    return lambda text: pattern.sub(lambda found: names[found[0]], text)


def undone(send: Callable[[], Any]) -> str:
    """The answer to a request whose effects are undone: all of it but what differs from request to request."""
    with transaction.atomic():
        response = send()
        body = response.getvalue().decode()
        transaction.set_rollback(True)
    headers = sorted(f"{name}: {value}" for name, value in response.headers.items() if name not in OF_THE_REQUEST)
    return "\n".join([str(response.status_code), *headers, "", body.replace(response.headers["X-Request-ID"], "")])


def status(answer: str) -> str:
    """Its first line."""
    return answer.partition("\n")[0]


def is_any_text(schema: dict[str, Any]) -> bool:
    """Whether a parameter takes names or ids, or a list of them."""
    schema = schema.get("items", schema)
    return schema.get("type") == "string" and "enum" not in schema and "date" not in schema.get("format", "")


def mixtures(theirs: FullTenant, operation: Operation) -> Iterator[dict[str, str]]:
    """Parameters of its path that name something of theirs: each alone, and all together."""
    chosen = CALLS.get(operation.id, Call()).names
    names = [item["name"] for item in operation.parameters("path")]
    values = {name: theirs.usual(operation, name) for name in names}
    values |= {name: theirs.names[source] for name, source in chosen.items()}
    own = [name for name in names if disguise(theirs)(values[name]) != values[name]]
    for count in range(1, len(own) + 1):
        for some in itertools.combinations(own, count):
            yield {name: values[name] for name in some}


@on_both
def test_every_text_of_the_tenant_has_the_canary(theirs: FullTenant):
    assert unmarked(theirs) == []
    assert {f"{model.__name__}.{item.name}" for model in OWNED for item in model._meta.concrete_fields} >= NOT_FREE


@on_both
def test_the_canary_is_seen_by_its_own_tenant(theirs: FullTenant):
    """Or the tests here could not fail."""
    answers = {id: undone(lambda: theirs.call(operation)) for id, operation in operations().items()}  # noqa: B023 - called at once
    silent = {
        id for id, answer in answers.items() if status(answer) in {"200", "201", "202"} and CANARY not in answer.lower()
    }
    # On PostgreSQL, the log shows what is committed, and nothing of this test is.
    assert silent == IMPERSONAL | ({"events_list"} if is_postgresql() else set())


@on_both
def test_no_answer_has_anything_of_another_tenant(ours: FullTenant, theirs: FullTenant):
    ids = {id for value in theirs.names.values() for id in UUIDS.findall(value)}
    for operation in operations().values():
        for accept in operation.answers:
            answer = undone(lambda: ours.call(operation, accept=accept))  # noqa: B023 - called at once
            assert CANARY not in answer.lower(), operation.id
            assert not {id for id in ids if id in answer}, operation.id


@on_both
def test_an_object_of_another_tenant_is_answered_as_an_unknown_one(ours: FullTenant, theirs: FullTenant):
    unknown = disguise(theirs)
    for operation in CLOSED:
        for names in mixtures(theirs, operation):
            strange = {name: unknown(value) for name, value in names.items()}
            hidden = undone(lambda: ours.call(operation, **names))  # noqa: B023 - called at once
            missing = undone(lambda: ours.call(operation, **strange))  # noqa: B023 - called at once
            assert unknown(hidden) == missing, (operation.id, names)
            # A `PUT` of a workflow makes what is missing, if its document names it.
            assert status(hidden) == ("422" if operation.id == "workflows_put" else "404"), (operation.id, names)


def test_a_query_for_an_object_of_another_tenant_finds_what_one_for_an_unknown_one_finds(
    ours: FullTenant, theirs: FullTenant
):
    unknown = disguise(theirs)
    for operation in CLOSED:
        path = ours.path(operation)
        names = [item["name"] for item in operation.parameters("query") if is_any_text(item["schema"])]
        for name in names if operation.method == "GET" else ():
            for value in sorted(set(theirs.names.values())):
                query = f"{path}?{name}="
                hidden = undone(lambda: ours.api.get(query + value))  # noqa: B023 - called at once
                missing = undone(lambda: ours.api.get(query + unknown(value)))  # noqa: B023 - called at once
                assert unknown(hidden) == missing, query + value


@on_both
def test_a_body_that_names_an_object_of_another_tenant_is_refused_as_one_with_an_unknown_name(
    ours: FullTenant, theirs: FullTenant
):
    unknown = disguise(theirs)
    strange = {name: unknown(value) for name, value in theirs.names.items()}
    for operation in CLOSED:
        body, path = CALLS.get(operation.id, Call()).body, ours.path(operation)
        hidden, missing = (
            undone(lambda: ours.api.send(operation.method, path, filled(body, names), if_match="*"))  # noqa: B023 - at once
            for names in (theirs.names, strange)
        )
        assert status(hidden) == status(missing), operation.id
        if status(hidden) >= "400":
            assert unknown(hidden) == missing, operation.id

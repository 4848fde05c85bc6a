"""`GET /api/v1/events/types`, and that events are as it says."""

import jsonschema_rs
import pytest

from runs.models import Run
from tests.support.api import Api, assert_problem, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "event_types_list"
PATH = "/api/v1/events/types"
pytestmark = pytest.mark.api


@pytest.fixture
def run(tenant) -> Run:
    run = make_run(tenant)
    record(run)
    return run


def test_each_type_has_a_schema(api: Api):
    kinds = read(api.get(PATH))["results"]
    assert {kind["type"] for kind in kinds if not kind["stored"]} == {"node.progress"}
    assert all(kind["schema"]["properties"]["type"]["const"] == kind["type"] for kind in kinds)
    for kind in kinds:
        jsonschema_rs.validator_for(kind["schema"])


@pytest.mark.django_db(transaction=True)
def test_events_are_as_their_schemas_say(api: Api, run: Run):
    schemas = {kind["type"]: kind["schema"] for kind in read(api.get(PATH))["results"]}
    for event in read(api.get("/api/v1/events"))["results"]:
        jsonschema_rs.validate(schemas[event["type"]], event)


def test_there_are_no_parameters(api: Api):
    assert_problem(api.get(f"{PATH}?limit=1"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.get(PATH).content == other_api.get(PATH).content


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(0):
        api.get(PATH)

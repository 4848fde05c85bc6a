"""`POST /api/v1/workflows/validate`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.rows import HELLO, make_api_key
from tests.support.factories.secrets import make_secret
from workflows.models import Workflow

OPERATION = "workflows_validate"
PATH = "/api/v1/workflows/validate"
pytestmark = pytest.mark.api


def test_a_good_document_is_valid_and_not_stored(api: Api, tenant):
    body = read(api.post(PATH, HELLO.replace("Hello {{", "{{ secrets.KEY }} {{"), YAML))
    assert (body["valid"], body["name"], body["problems"], body["secrets"]) == (True, "hello", [], ["KEY"])
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_secrets_that_there_are_not_are_named_to_who_may_know(api: Api, tenant):
    document = HELLO.replace("Hello {{", "{{ secrets.KEY }} {{ secrets.NONE }} {{")
    make_secret(tenant, "KEY")
    assert read(api.post(PATH, document, YAML))["missing_secrets"] == ["NONE"]
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    body = read(viewer.post(PATH, document, YAML))
    assert (body["secrets"], body["missing_secrets"]) == (["KEY", "NONE"], None)


def test_everything_that_is_wrong_is_reported_with_its_place(api: Api):
    body = read(api.post(PATH, HELLO.replace("type: transform", "type: tranform").replace("Greets", "[}"), YAML))
    assert (body["valid"], body["name"]) == (False, None)
    assert body["problems"][0]["line"] == 4
    [problem] = read(api.post(PATH, HELLO.replace("type: transform", "type: tranform"), YAML))["problems"]
    assert (problem["pointer"], problem["line"], problem["suggestion"]) == ("/nodes/0/type", 10, "transform")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, HELLO, YAML), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.post(PATH, HELLO, YAML).content == other_api.post(PATH, HELLO, YAML).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.post(PATH, HELLO, YAML)
    with django_assert_num_queries(0):
        assert api.post(PATH, HELLO, YAML).status_code == 200

"""`GET /api/v1/api-keys/{id}`."""

import pytest

from pyflow.core.ids import new_uuid
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key

OPERATION = "api_keys_read"
PATH = "/api/v1/api-keys"
pytestmark = pytest.mark.api


def test_it_shows_a_key_without_its_secret(api: Api, tenant):
    key, text = make_api_key(tenant, "deploy")
    response = api.get(f"{PATH}/{key.pk}")
    assert (read(response)["name"], read(response)["last4"]) == ("deploy", text[-4:])
    assert read(response)["last_used_at"] is not None
    assert text.split("_")[3].encode() not in response.content


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(nobody.get(f"{PATH}/{make_api_key(tenant)[0].pk}"), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    theirs = other_api.get(f"{PATH}/{make_api_key(tenant)[0].pk}")
    assert_problem(theirs, 404, "api_key_not_found")
    assert_same_answer(theirs, other_api.get(f"{PATH}/{new_uuid()}"))


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    key, _ = make_api_key(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        api.get(f"{PATH}/{key.pk}")

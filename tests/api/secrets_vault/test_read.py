"""`GET /api/v1/secrets/{name}`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_read"


def test_it_has_everything_but_the_value(api: Api, tenant):
    make_secret(tenant, "API_KEY", "hunter2-hunter2", "Ours")
    response = api.get(f"{SECRETS}/API_KEY")
    body = read(response)
    assert body.pop("created_at")
    assert body.pop("updated_at")
    assert body == {"name": "API_KEY", "description": "Ours", "version": 1}
    assert b"hunter" not in response.content


def test_a_client_that_has_the_state_already_gets_304(api: Api, tenant):
    make_secret(tenant)
    tag = api.get(f"{SECRETS}/API_KEY").headers["ETag"]
    assert api.get(f"{SECRETS}/API_KEY", if_none_match=tag).status_code == 304
    api.put(f"{SECRETS}/API_KEY", {"value": "another value"})
    assert api.get(f"{SECRETS}/API_KEY", if_none_match=tag).status_code == 200


@pytest.mark.parametrize("name", ["NOTHING", "no name", "%00", "API_KEY%0A"])
def test_what_is_not_there_is_not_found(api: Api, tenant, name: str):
    make_secret(tenant)
    assert_problem(api.get(f"{SECRETS}/{name}"), 404, "secret_not_found")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant)
    assert_same_answer(api.get(f"{SECRETS}/API_KEY"), api.get(f"{SECRETS}/NOTHING"))


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(f"{SECRETS}/API_KEY"), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.get(SECRETS)
    with django_assert_num_queries(1):
        api.get(f"{SECRETS}/API_KEY")

"""`GET /api/v1/secrets/{name}/versions`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secret_versions_list"
VERSIONS = f"{SECRETS}/API_KEY/versions"


def test_the_newest_comes_first_and_destroyed_ones_stay(api: Api, tenant):
    make_secret(tenant)
    api.put(f"{SECRETS}/API_KEY", {"value": "second value"})
    api.send("DELETE", f"{VERSIONS}/1")
    newest, oldest = read(api.get(VERSIONS))["results"]
    assert (newest["number"], newest["current"], newest["destroyed_at"]) == (2, True, None)
    assert (oldest["number"], oldest["current"]) == (1, False)
    assert oldest["destroyed_at"] is not None
    assert newest.keys() == {"number", "current", "created_at", "destroyed_at"}


def test_they_come_in_pages(api: Api, tenant):
    make_secret(tenant)
    api.put(f"{SECRETS}/API_KEY", {"value": "second value"})
    page = read(api.get(f"{VERSIONS}?limit=1"))
    assert [version["number"] for version in page["results"]] == [2]
    rest = read(api.get(page["next"].partition("testserver")[2]))
    assert [version["number"] for version in rest["results"]] == [1]


def test_unknown_parameters_are_refused(api: Api, tenant):
    make_secret(tenant)
    assert_problem(api.get(f"{VERSIONS}?search=x"), 422, "input_invalid")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant)
    assert_same_answer(api.get(VERSIONS), api.get(f"{SECRETS}/NOTHING/versions"))


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(VERSIONS), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.put(f"{SECRETS}/API_KEY", {"value": "second value"})
    with django_assert_num_queries(2):
        api.get(VERSIONS)

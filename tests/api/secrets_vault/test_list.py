"""`GET /api/v1/secrets`."""

import pytest

from tenants.access import Role
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_list"


def test_it_has_names_and_versions_and_no_values(api: Api, tenant):
    make_secret(tenant, "SECOND", "hunter2-hunter2", "The other one")
    make_secret(tenant, "FIRST", "hunter3-hunter3")
    response = api.get(SECRETS)
    assert [secret["name"] for secret in read(response)["results"]] == ["FIRST", "SECOND"]
    assert read(response)["results"][1]["description"] == "The other one"
    assert b"hunter" not in response.content


def test_it_comes_in_pages(api: Api, tenant):
    for letter in "ABC":
        make_secret(tenant, f"KEY_{letter}")
    first = read(api.get(f"{SECRETS}?limit=2"))
    assert [secret["name"] for secret in first["results"]] == ["KEY_A", "KEY_B"]
    second = read(api.get(first["next"].partition("testserver")[2]))
    assert [secret["name"] for secret in second["results"]] == ["KEY_C"]
    assert second["next"] is None


@pytest.mark.vendor("each vendor searches text in its own way")
def test_it_can_be_searched(api: Api, tenant):
    make_secret(tenant, "SHOP_TOKEN")
    make_secret(tenant, "MAIL_PASSWORD")
    assert [secret["name"] for secret in read(api.get(f"{SECRETS}?search=shop"))["results"]] == ["SHOP_TOKEN"]


def test_unknown_parameters_are_refused(api: Api):
    assert_problem(api.get(f"{SECRETS}?values=true"), 422, "input_invalid")


def test_a_viewer_may_not(tenant):
    assert_problem(Api(make_api_key(tenant, role=Role.VIEWER.value)[1]).get(SECRETS), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant)
    assert read(api.get(SECRETS))["results"] == []


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(SECRETS), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    for letter in "ABC":
        make_secret(tenant, f"KEY_{letter}")
    api.get(SECRETS)
    with django_assert_num_queries(1):
        api.get(SECRETS)

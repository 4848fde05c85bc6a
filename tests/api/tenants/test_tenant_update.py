"""`PATCH /api/v1/tenants/current`."""

import json

import pytest

from tenants.models import AuditEntry, Tenant
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key

OPERATION = "tenant_update"
PATH = "/api/v1/tenants/current"
pytestmark = pytest.mark.api


def rename(api: Api, body, if_match: str = "*"):
    return api.send("PATCH", PATH, body, if_match=if_match)


def test_it_renames_the_tenant_and_is_audited(api: Api, tenant):
    seen = api.get(PATH).headers["ETag"]
    response = rename(api, {"name": "Acme & Söhne"}, seen)
    assert read(response)["name"] == "Acme & Söhne"
    assert response.headers["ETag"] == api.get(PATH).headers["ETag"] != seen
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert (entry.action, json.loads(entry.record)["after"]) == ("tenant.renamed", {"name": "Acme & Söhne"})


def test_the_same_name_changes_nothing(api: Api, tenant):
    assert rename(api, {"name": tenant.name}).status_code == 200
    assert not AuditEntry.objects.for_tenant(tenant).exists()


def test_nobody_overwrites_what_they_have_not_seen(api: Api, tenant):
    seen = api.get(PATH).headers["ETag"]
    rename(api, {"name": "one"}, seen)
    assert_problem(rename(api, {"name": "two"}, seen), 412, "precondition_failed")
    assert_problem(api.send("PATCH", PATH, {"name": "two"}), 428, "precondition_required")
    assert read(api.get(PATH))["name"] == "one"


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": " "}, {"name": "x" * 201}, {"slug": "x"}, {"plan": "pro"}])
def test_what_is_no_name_is_refused(api: Api, body):
    assert_problem(rename(api, body), 422, "input_invalid")


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_it_is_for_owners(tenant, role: str):
    assert_problem(rename(Api(make_api_key(tenant, role=role)[1]), {"name": "x"}), 403, "forbidden")


def test_it_needs_a_key(nobody: Api):
    assert_problem(rename(nobody, {"name": "x"}), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    rename(other_api, {"name": "mine"})
    assert Tenant.objects.get(pk=tenant.pk).name == tenant.name


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    rename(api, {"name": "one"})
    with django_assert_num_queries(5):  # the tenant, its name; the audit's head, entry and head
        rename(api, {"name": "two"})

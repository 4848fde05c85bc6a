"""Which version a start runs, asked again and again."""

import pytest

from tests.support.factories.rows import HELLO, a_test, make_tenant
from workflows.errors import NothingPublishedError, WorkflowArchivedError, WorkflowMissingError
from workflows.latest import latest_version
from workflows.services import archive_workflow, delete_workflow, put_workflow
from workflows.versions import archive_version, create_draft, publish_version, rollback

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    tenant = make_tenant()
    put_workflow(by=a_test(tenant), name="hello", source=HELLO, source_format="yaml")
    return tenant


def test_the_second_look_is_one_small_query(tenant, django_assert_num_queries):
    first = latest_version(tenant_id=tenant.pk, name="hello")
    with django_assert_num_queries(1) as asked:
        again = latest_version(tenant_id=tenant.pk, name="hello")
        assert again.workflow.name == "hello"
    assert again.pk == first.pk
    assert "definition" not in asked.captured_queries[0]["sql"]
    assert latest_version(tenant_id=tenant.pk, name=str(first.workflow_id)).pk == first.pk


def test_it_follows_every_change(tenant):
    by = a_test(tenant)
    latest_version(tenant_id=tenant.pk, name="hello")
    create_draft(by=by, name="hello", source=HELLO + "# 2\n", source_format="yaml")
    assert latest_version(tenant_id=tenant.pk, name="hello").number == 1
    publish_version(by=by, name="hello", number=2)
    assert latest_version(tenant_id=tenant.pk, name="hello").number == 2
    put_workflow(by=by, name="hello", source=HELLO.replace("Greets", "Waves"), source_format="yaml")
    newest = latest_version(tenant_id=tenant.pk, name="hello")
    assert (newest.number, newest.workflow.description) == (3, "Waves")
    rollback(by=by, name="hello", number=1)
    assert latest_version(tenant_id=tenant.pk, name="hello").number == 4
    archive_version(by=by, name="hello", number=4)
    assert latest_version(tenant_id=tenant.pk, name="hello").number == 3
    archive_workflow(by=by, name="hello", archived=True)
    with pytest.raises(WorkflowArchivedError):
        latest_version(tenant_id=tenant.pk, name="hello")
    archive_workflow(by=by, name="hello", archived=False)
    assert latest_version(tenant_id=tenant.pk, name="hello").number == 3
    delete_workflow(by=by, name="hello")
    with pytest.raises(WorkflowMissingError):
        latest_version(tenant_id=tenant.pk, name="hello")


def test_nothing_published_is_nothing_to_start(tenant):
    by = a_test(tenant)
    latest_version(tenant_id=tenant.pk, name="hello")
    archive_version(by=by, name="hello", number=1)
    with pytest.raises(NothingPublishedError, match="Publish one"):
        latest_version(tenant_id=tenant.pk, name="hello")


@pytest.mark.parametrize("name", ["unknown", "a\0b", "01a2171e-0000-7000-8000-000000000000"])
def test_what_there_is_not(tenant, name: str):
    with pytest.raises(WorkflowMissingError):
        latest_version(tenant_id=tenant.pk, name=name)


def test_another_tenants_workflow_is_none(tenant):
    version = latest_version(tenant_id=tenant.pk, name="hello")
    other = make_tenant()
    for name in ("hello", str(version.workflow_id)):
        with pytest.raises(WorkflowMissingError):
            latest_version(tenant_id=other.pk, name=name)

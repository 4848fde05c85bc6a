"""Names by which approvals know their assignees: each is that of one principal of a tenant."""

import importlib

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, transaction

from tenants.access import Role
from tenants.errors import MemberExistsError
from tenants.members import add_member
from tenants.models import ApiKey, Membership
from tests.support.factories.rows import a_test, make_api_key, make_member, make_tenant, make_user

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def test_the_database_keeps_two_keys_from_having_one_name():
    tenant = make_tenant()
    make_api_key(tenant, known_as="deploy")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_api_key(tenant, known_as="deploy")
    make_api_key(make_tenant(), known_as="deploy")


def test_keys_of_one_name_that_there_are_get_names_of_their_own():
    tenant, other = make_tenant(), make_tenant()
    keys = [make_api_key(tenant, name)[0] for name in ("deploy", "Deploy", "deploy (2)", "d" * 200, "D" * 200)]
    make_api_key(other, "deploy")
    revoked, _ = make_api_key(tenant, "deploy", revoked_at=keys[0].created_at)
    importlib.import_module("tenants.migrations.0003_key_names").keep_first(apps, None)
    names = [ApiKey.objects.for_tenant(tenant).get(pk=key.pk).name for key in keys]
    assert names[:4] == ["deploy", "Deploy (2)", "deploy (2) (2)", "d" * 200]
    assert names[4] == "D" * 196 + " (2)"
    revoked.refresh_from_db()
    assert (revoked.name, revoked.known_as) == ("deploy", None)
    assert ApiKey.objects.for_tenant(other).get().name == "deploy"


def test_commands_that_name_no_key_number_them(capsys):
    tenant = make_tenant()
    for _ in range(2):
        call_command("createkey", tenant=tenant.slug)
    names = ApiKey.objects.for_tenant(tenant).order_by("pk").values_list("name", flat=True)
    assert list(names) == ["command line", "command line 2"]
    assert capsys.readouterr().out.count("pyf_live_") == 2


@pytest.mark.parametrize("name", ["Ada@Example.org", "ada@example.org"])
def test_nobody_joins_under_the_name_of_a_member(name: str):
    tenant, elsewhere = make_tenant(), make_tenant()
    make_member(tenant, name="ada@example.org")
    stranger = make_user("stranger")
    stranger.email = name
    with pytest.raises(MemberExistsError, match="same user name or e-mail address"):
        add_member(by=a_test(tenant), user=stranger, role=Role.VIEWER)
    add_member(by=a_test(elsewhere), user=stranger, role=Role.VIEWER)
    assert Membership.objects.for_tenant(tenant).count() == 1

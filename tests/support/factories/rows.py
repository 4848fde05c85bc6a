"""Rows for tests, made the way that the product makes them wherever that is quick."""

import itertools
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.utils import timezone

from runs.models import Run
from runs.services.start import Start, start_run
from tenants.access import Actor, Principal, Role
from tenants.invitations import invite
from tenants.keys import hash_secret, make_key
from tenants.models import ApiKey, Invitation, Membership, Tenant
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.passwords import HASHED
from workflows.models import Version
from workflows.services import put_workflow
from workflows.versions import create_draft

HELLO = """\
# says hello
version: 2
name: hello
description: Greets
labels: {team: tests}
inputs: {who: string}
outputs: {greeting: "{{ greet }}"}
nodes:
  - id: greet
    type: transform
    config: {input: "Hello {{ input.who }}", expression: "$"}
"""

_numbers = itertools.count(1)


def make_tenant(slug: str = "") -> Tenant:
    """A tenant; of a name that no other has unless one is given."""
    name = slug or f"tenant-{next(_numbers)}"
    return Tenant.objects.create(slug=name, name=name, plan="enterprise")


def a_test(tenant: Tenant) -> Actor:
    """Who does what a test needs to have been done."""
    return Actor.system(tenant.pk, "a test")


def make_api_key(tenant: Tenant, name: str = "a test", **values: Any) -> tuple[ApiKey, str]:
    """A key and its text."""
    made = make_key()
    key = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        key_id=made.key_id,
        secret_hash=hash_secret(made.secret),
        last4=made.text[-4:],
        **{"last_used_at": timezone.now(), "role": Role.OWNER.value, **values},
    )
    return key, made.text


def make_workflow(tenant: Tenant, source: str = HELLO) -> Version:
    """The newest version of a workflow, stored from its YAML; its name is read from there."""
    name = next(line.partition(":")[2].strip() for line in source.splitlines() if line.startswith("name:"))
    return put_workflow(by=a_test(tenant), name=name, source=source, source_format="yaml").version


def make_draft(tenant: Tenant, source: str = HELLO, name: str = "hello") -> Version:
    """A draft of a workflow that there is."""
    return create_draft(by=a_test(tenant), name=name, source=source, source_format="yaml")


def make_run(tenant: Tenant, source: str = HELLO, input: dict[str, Any] | None = None) -> Run:
    """A queued run of a workflow, which is stored before."""
    version = make_workflow(tenant, source)
    given = input if input is not None else ({"who": "Ada"} if "who: string" in source else {})
    return start_run(by=a_test(tenant), workflow_name=version.workflow.name, start=Start(input=given)).run


def make_user(name: str = "", password: str = "") -> User:
    """Somebody with an e-mail address, and no password unless its hash is given."""
    email = name if "@" in name else f"{name or f'user-{next(_numbers)}'}@example.org"
    return User.objects.create(username=email, email=email, password=password or make_password(None))


def make_member(tenant: Tenant, role: Role = Role.VIEWER, name: str = "") -> Membership:
    """A new user who is a member of a tenant and can log in: with the password `PASSWORD` of `passwords`."""
    user = make_user(name, password=HASHED)
    member: Membership = Membership.objects.create(tenant=tenant, user=user, role=role.value)
    return member


def make_principal(tenant: Tenant, role: Role = Role.OWNER, **values: Any) -> Principal:
    """Somebody who acts in a tenant, for verbs that are called directly."""
    return Principal(tenant.pk, "key", "a-key", "a test", role, **values)


def make_invitation(tenant: Tenant, email: str = "", role: str = "viewer") -> tuple[Invitation, str]:
    """An open invitation and its token."""
    email = email or f"guest-{next(_numbers)}@example.org"
    return invite(by=a_test(tenant), principal=None, email=email, role=Role(role))


def make_superuser(name: str = "root") -> User:
    """Somebody who may do everything in the admin, without a password: log in by ``client.force_login``."""
    user = User(username=name, is_staff=True, is_superuser=True)
    user.set_unusable_password()
    user.save()
    return user


def allow(tenant: Tenant, runs: int) -> None:
    """Give a tenant a plan with so many runs at a time."""
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.CONCURRENT_RUNS.value: runs}, by=a_test(tenant))

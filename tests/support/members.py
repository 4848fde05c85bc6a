"""Users who are members of tenants, and their sessions."""

import itertools
from typing import Any

from django.contrib.auth.models import User

from tenants.access import Role
from tenants.models import Membership, Tenant
from tests.support.api import Api, read
from tests.support.passwords import HASHED, PASSWORD

_numbers = itertools.count(1)


def make_member(tenant: Tenant, role: Role | str = Role.VIEWER, username: str = "") -> Membership:
    """A new user with the password `PASSWORD`, as a member of a tenant."""
    user = User.objects.create(username=username or f"user-{next(_numbers)}", password=HASHED)
    membership: Membership = Membership.objects.create(tenant=tenant, user=user, role=str(role))
    return membership


def log_in(member: Membership, **wrong: str) -> Any:
    """The answer to a login; parts of it can be made wrong."""
    right = {"username": member.user.get_username(), "password": PASSWORD, "tenant": member.tenant.slug}
    return Api().post("/api/v1/auth/token", right | wrong)


def api_of(member: Membership) -> Api:
    """A client with a new access token of a member."""
    return Api(read(log_in(member))["access_token"])

"""The sessions of members."""

from typing import Any

from tenants.models import Membership
from tests.support.api import Api, read
from tests.support.passwords import PASSWORD


def log_in(member: Membership, **wrong: str) -> Any:
    """The answer to a login; parts of it can be made wrong."""
    right = {"username": member.user.get_username(), "password": PASSWORD, "tenant": member.tenant.slug}
    return Api().post("/api/v1/auth/token", right | wrong)


def api_of(member: Membership) -> Api:
    """A client with a new access token of a member."""
    return Api(read(log_in(member))["access_token"])

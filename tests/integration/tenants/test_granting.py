"""Whoever grants something has it: every actor's role and scopes, with everything that can be granted.

The rule is checked by its effect. After a grant, what the grantee may do with any object is read in the way in which a
request reads it, and compared with what the actor may do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.db import transaction

from tenants.access import LEVELS, SHAREABLE, Level, Permission, Principal, Role, permissions_of
from tenants.api_keys import issue_key, rotate_key
from tenants.authentication import authenticate_key
from tenants.errors import BeyondOwnRightsError, InvitationClosedError
from tenants.grants import permissions_on, share
from tenants.invitations import accept_invitation, invite
from tenants.members import change_role, lock_member, remove_member
from tenants.models import Membership, Tenant
from tests.support.factories.rows import a_test, make_api_key, make_member, make_principal, make_workflow
from tests.support.passwords import PASSWORD
from workflows.models import Workflow

EVERYTHING = frozenset(Permission)
SCOPES = [None, EVERYTHING, permissions_of(Role.VIEWER), *(EVERYTHING - {one} for one in Permission)]
ROLES = list(Role)


@dataclass
class Place:
    """A tenant whose one workflow is shared with everybody who is a viewer, for writing."""

    tenant: Tenant
    workflow: Workflow

    def may(self, principal: Principal) -> frozenset[Permission]:
        return principal.permissions | permissions_on(principal, self.workflow)

    def member(self, membership: Membership) -> frozenset[Permission]:
        role = Role(membership.role)
        return self.may(make_principal(self.tenant, role, user_id=membership.user_id))


@pytest.fixture
def place(tenant) -> Place:
    workflow = make_workflow(tenant).workflow
    place = Place(tenant, workflow)
    give(place, None, "role", "viewer", Level.WRITE)
    return place


def give(place: Place, principal: Principal | None, kind: str, grantee: str, level: Level) -> None:
    share(
        by=a_test(place.tenant),
        principal=principal,
        obj=place.workflow,
        target="workflow:hello",
        level=level,
        kind=kind,
        grantee=grantee,
    )


def actors(place: Place) -> Iterator[Principal]:
    for role in ROLES:
        for scopes in SCOPES:
            yield make_principal(place.tenant, role, scopes=scopes)


def granted(place: Place, grant: Callable[[Principal], frozenset[Permission]]) -> dict[bool, int]:
    """How many actors could grant it and how many could not; each of the first has all that the grantee has then."""
    counts = {True: 0, False: 0}
    for actor in actors(place):
        with transaction.atomic():
            try:
                beyond = grant(actor) - place.may(actor)
            except BeyondOwnRightsError:
                counts[False] += 1
            else:
                counts[True] += 1
                assert not beyond, (actor.role, actor.scopes, sorted(beyond))
            transaction.set_rollback(True)
    return counts


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("kind", ["member", "role"])
def test_an_object_is_shared_only_for_what_the_sharer_may_do(place: Place, kind: str, level: Level):
    member = make_member(place.tenant, Role.ADMIN)
    grantee = str(member.pk) if kind == "member" else "admin"

    def grant(actor: Principal) -> frozenset[Permission]:
        give(place, actor, kind, grantee, level)
        return LEVELS[level]

    assert all(granted(place, grant).values())


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_given_only_by_a_member_or_key_that_has_it(place: Place, role: Role):
    member = make_member(place.tenant, Role.VIEWER)

    def grant(actor: Principal) -> frozenset[Permission]:
        row = lock_member(tenant_id=place.tenant.pk, member_id=member.pk)
        change_role(by=a_test(place.tenant), principal=actor, member=row, role=role)
        return place.member(row)

    assert all(granted(place, grant).values())


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_taken_only_by_a_member_or_key_that_has_it(place: Place, role: Role):
    make_member(place.tenant, Role.OWNER)
    member = make_member(place.tenant, role)

    def take(actor: Principal) -> frozenset[Permission]:
        had = place.member(member)
        row = lock_member(tenant_id=place.tenant.pk, member_id=member.pk)
        remove_member(by=a_test(place.tenant), principal=actor, member=row)
        return had

    assert all(granted(place, take).values())


@pytest.mark.parametrize("role", ROLES)
def test_an_invitation_gives_no_more_than_the_inviter_has(place: Place, role: Role):
    def grant(actor: Principal) -> frozenset[Permission]:
        _, token = invite(by=a_test(place.tenant), principal=actor, email="ada@example.org", role=role)
        return place.member(accept_invitation(tenant_id=place.tenant.pk, token=token, password=PASSWORD, user_id=None))

    assert all(granted(place, grant).values())


@pytest.mark.parametrize("scopes", [None, frozenset(), SHAREABLE, EVERYTHING], ids=["none", "empty", "shared", "all"])
@pytest.mark.parametrize("role", ROLES)
def test_a_key_may_do_no_more_than_its_maker(place: Place, role: Role, scopes: frozenset[Permission] | None):
    narrowed = None if scopes is None else sorted(scopes & permissions_of(role))

    def grant(actor: Principal) -> frozenset[Permission]:
        _, text = issue_key(
            by=a_test(place.tenant), principal=actor, name="x", role=role, scopes=narrowed, expires_at=None
        )
        return place.may(authenticate_key(text=text))

    assert granted(place, grant)[True]


@pytest.mark.parametrize("role", ROLES)
def test_a_key_is_rotated_only_by_a_member_or_key_that_may_do_as_much(place: Place, role: Role):
    key, _ = make_api_key(place.tenant, role=role.value)

    def grant(actor: Principal) -> frozenset[Permission]:
        return place.may(authenticate_key(text=rotate_key(by=a_test(place.tenant), principal=actor, key_id=key.pk)[1]))

    assert all(granted(place, grant).values())


@pytest.mark.parametrize("change", ["removed", "demoted", "inactive"])
def test_an_invitation_ends_with_the_rights_of_the_inviter(place: Place, change: str):
    by, inviter = a_test(place.tenant), make_member(place.tenant, Role.ADMIN)
    principal = make_principal(place.tenant, Role.ADMIN, user_id=inviter.user_id)
    _, token = invite(by=by, principal=principal, email="ada@example.org", role=Role.ADMIN)
    owner = make_principal(place.tenant)
    row = lock_member(tenant_id=place.tenant.pk, member_id=inviter.pk)
    if change == "removed":
        remove_member(by=by, principal=owner, member=row)
    elif change == "demoted":
        change_role(by=by, principal=owner, member=row, role=Role.EDITOR)
    else:
        type(inviter.user).objects.filter(pk=inviter.user_id).update(is_active=False)
    with pytest.raises(InvitationClosedError, match="can no longer assign the role `admin`"):
        accept_invitation(tenant_id=place.tenant.pk, token=token, password=PASSWORD, user_id=None)

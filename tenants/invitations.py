"""Verbs about invitations: an offer of membership that somebody takes with a token.

The platform sends no mail. Whoever invites is shown the token once and hands it over; whoever has it takes the place
with an account of the invited address. An account that exists is proved by its password or by a token of its own, and
a new one is made with the given password.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone

from tenants import audit, failures
from tenants.access import Actor, Principal, Role
from tenants.errors import (
    InvitationClosedError,
    InvitationExistsError,
    InvitationNotFoundError,
    InvitationTokenError,
    MemberExistsError,
    PasswordError,
)
from tenants.members import add_member, require_coverage
from tenants.models import Invitation, Membership
from tenants.passwords import is_right
from tenants.scoping import lookup_scope

#: How long an invitation is open unless it says so, and at most. Seconds.
DEFAULT_LIFETIME = 7 * 86_400
MAX_LIFETIME = 30 * 86_400
#: As long as a user name may be: that of a new account is the address.
EMAIL_LENGTH = 150
TOKEN_PREFIX = "pyf_invite_"  # noqa: S105 - what tokens begin with, so that scanners of leaks find them


def invitations_of(tenant_id: UUID) -> models.QuerySet[Invitation]:
    """All invitations of a tenant with who made them."""
    return Invitation.objects.for_tenant(tenant_id).select_related("invited_by")


def find_invitation(*, tenant_id: UUID, invitation_id: UUID) -> Invitation:
    """One invitation; ``InvitationNotFoundError``."""
    invitation = invitations_of(tenant_id).filter(pk=invitation_id).first()
    if invitation is None:
        raise InvitationNotFoundError(f"There is no invitation {invitation_id}.")
    return invitation


@transaction.atomic
def invite(
    *, by: Actor, principal: Principal | None, email: str, role: Role, lifetime: int = DEFAULT_LIFETIME
) -> tuple[Invitation, str]:
    """An invitation and its token, which is not kept anywhere: show it now. ``principal`` is ``None`` for the operator.

    Raises ``BeyondOwnRightsError``, ``MemberExistsError``, ``InvitationExistsError``.
    """
    require_coverage(principal, role)
    email, now = email.lower(), timezone.now()
    members = Membership.objects.for_tenant(by.tenant_id)
    if members.filter(Q(user__username=email) | Q(user__email__iexact=email)).exists():
        raise MemberExistsError(f"{email} is a member already. Change the member's role instead.")
    same = Invitation.objects.for_tenant(by.tenant_id).filter(
        email=email, accepted_at__isnull=True, revoked_at__isnull=True
    )
    same.filter(expires_at__lte=now).update(revoked_at=now)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    invitation = Invitation(
        tenant_id=by.tenant_id,
        email=email,
        role=role.value,
        token_hash=hash_token(token),
        invited_by_id=None if principal is None else principal.user_id,
        created_at=now,
        expires_at=now + timedelta(seconds=lifetime),
    )
    try:
        with transaction.atomic():
            invitation.save(force_insert=True)
    except IntegrityError:
        raise InvitationExistsError(f"An invitation to {email} is open. Revoke it before creating another.") from None
    audit.record(by=by, action="invitation.created", target=f"invitation:{invitation.pk}", after=_shown(invitation))
    return invitation, token


@transaction.atomic
def revoke_invitation(*, by: Actor, invitation_id: UUID) -> None:
    """Withdraw an invitation. Raises ``InvitationNotFoundError``; ``InvitationClosedError`` if it was accepted."""
    invitation = (
        Invitation.objects.for_tenant(by.tenant_id)
        .select_for_update(of=("self",), no_key=True)
        .filter(pk=invitation_id)
        .first()
    )
    if invitation is None:
        raise InvitationNotFoundError(f"There is no invitation {invitation_id}.")
    if invitation.state == "accepted":
        raise InvitationClosedError("The invitation was accepted. Remove the member instead.")
    if invitation.state == "revoked":
        return
    invitation.revoke()
    audit.record(by=by, action="invitation.revoked", target=f"invitation:{invitation.pk}", before=_shown(invitation))


def tenant_of_token(*, token: str) -> tuple[UUID, UUID]:
    """The tenant and the id of the invitation that a token is for; ``InvitationTokenError``."""
    token_hash = hash_token(token)
    with lookup_scope(token_hash):
        found = Invitation.objects.presented(token_hash)
    if found is None:
        raise _refused()
    return found.tenant_id, found.pk


@transaction.atomic
def accept_invitation(
    *, tenant_id: UUID, token: str, password: str, user_id: int | None, request_id: str = "", address: str = ""
) -> Membership:
    """Make whoever has the token a member: the user ``user_id``, who has proved who it is, or the one of the password.

    Without an account of the invited address one is made, with that password. Raises ``InvitationTokenError``,
    ``InvitationClosedError`` (also if the inviter could not give the role any more), ``PasswordError``,
    ``MemberExistsError``, and ``TooManyFailuresError`` for passwords that were guessed too often.
    """
    rows = Invitation.objects.for_tenant(tenant_id).select_for_update(of=("self",), no_key=True)
    invitation = rows.filter(token_hash=hash_token(token)).first()
    if invitation is None:
        raise _refused()
    if not invitation.open:
        raise InvitationClosedError(f"The invitation is {invitation.state}. Ask for a new one.")
    _require_inviter(invitation)
    user = _account(invitation.email, password, user_id, address)
    by = Actor(tenant_id, "user", str(user.pk), user.get_username(), request_id, address)
    if Membership.objects.for_tenant(tenant_id).filter(user=user).exists():
        raise MemberExistsError("You are a member of this tenant already.")
    invitation.accept()
    audit.record(by=by, action="invitation.accepted", target=f"invitation:{invitation.pk}", before=_shown(invitation))
    return add_member(by=by, user=user, role=Role(invitation.role))


def hash_token(token: str) -> str:
    """Hash a token for storage. It is random, 256 bits long: a plain SHA-256 reveals nothing about it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _require_inviter(invitation: Invitation) -> None:
    """Refuse an invitation of a member who has left, or has less than the invited role, since it was made.

    Without a member behind it, an invitation is the operator's or that of a key of the tenant itself.
    """
    if invitation.invited_by_id is None:
        return
    members = Membership.objects.for_tenant(invitation.tenant_id)
    role = members.filter(user=invitation.invited_by_id, user__is_active=True).values_list("role", flat=True).first()
    if role is None or Role(role).rank < Role(invitation.role).rank:
        raise InvitationClosedError(
            f"Its creator can no longer assign the role `{invitation.role}`. Ask for a new invitation."
        )


def _account(email: str, password: str, user_id: int | None, address: str) -> User:
    users = list(User.objects.filter(Q(username=email) | Q(email__iexact=email)).order_by("pk"))
    if user_id is not None:
        proved = next((user for user in users if user.pk == user_id and user.is_active), None)
        if proved is None:
            raise InvitationTokenError("The invitation is for a different address than that of your account.")
        return proved
    if not users:
        return _new_account(email, password)
    # Whoever may invite can get a token for any address: it must not serve to guess the password of the account.
    subjects = (*(f"user:{user.username}" for user in users), f"address:{address}")
    with failures.attempt(*subjects):
        for user in users:
            if user.is_active and is_right(user, password):
                return user
        raise InvitationTokenError("An account with this address exists, and the password is not correct.")


def _new_account(email: str, password: str) -> User:
    user = User(username=email, email=email)
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise PasswordError(" ".join(error.messages)) from None
    user.set_password(password)
    user.save(force_insert=True)
    return user


def _refused() -> InvitationTokenError:
    return InvitationTokenError("The token is not that of an invitation.")


def _shown(invitation: Invitation) -> dict[str, Any]:
    return {"email": invitation.email, "role": invitation.role, "expires_at": invitation.expires_at.isoformat()}

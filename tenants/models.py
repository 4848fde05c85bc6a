"""Tenants, who belongs to them, the keys that act for them, and what was done in them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Literal
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.access import Role
from tenants.errors import PlanError
from tenants.plans import Plan, checked_overrides
from tenants.principals import cache
from tenants.scoping import TenantManager, TenantOwned

ROLES = [(role.value, role.value) for role in Role]
PLANS = [(plan.value, plan.value) for plan in Plan]


class Tenant(models.Model):
    """A tenant: the owner of workflows, runs and secrets. Other tenants see nothing of it."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    slug = models.SlugField(max_length=63, unique=True, help_text="In URLs and logs.")
    name = models.CharField(max_length=200)
    plan = models.CharField(max_length=16, choices=PLANS, default="free")
    limits = models.JSONField(default=dict, blank=True, help_text="Quotas that differ from the plan's, by name.")
    auth_version = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Counter of changes of access; see `access_changed`."
    )
    suspended_at = models.DateTimeField(null=True, blank=True, help_text="Time since when its credentials are refused.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        """By slug."""

        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        """Limits are of quotas that exist, and numbers."""
        try:
            self.limits = checked_overrides(self.limits)
        except PlanError as error:
            raise ValidationError({"limits": str(error)}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store it; a new tenant gets the head of its audit with it, so that a missing one shows."""
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                AuditHead.objects.create(tenant=self)

    def suspend(self) -> None:
        """Nobody acts for the tenant from now on, until ``resume``."""
        self.suspended_at = self.suspended_at or timezone.now()
        self.save(update_fields=["suspended_at"])
        access_changed(self.pk)

    def resume(self) -> None:
        """Its keys and members are good again."""
        self.suspended_at = None
        self.save(update_fields=["suspended_at"])
        access_changed(self.pk)


def access_changed(tenant_id: UUID) -> None:
    """Somebody's access to the tenant has changed; to be called in the transaction of the change.

    Requests notice at once, in every process: ``tenant_scope`` reads the version that this counts up. What checks a
    credential without entering a scope notices at once in this process and within the cache's time (5 s) elsewhere.
    """
    Tenant.objects.filter(pk=tenant_id).update(auth_version=models.F("auth_version") + 1)
    cache.outdate(tenant_id)
    # And again: until the commit others read, and believe, what was before.
    transaction.on_commit(lambda: cache.outdate(tenant_id))


class _Access(TenantOwned):
    """Rows that say who may do what: saving or deleting one is a change of access."""

    class Meta(TenantOwned.Meta):
        """Options of all rows of tenants."""

        abstract = True

    #: What may be saved without anybody's access being another.
    harmless_fields: frozenset[str] = frozenset()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store it, and let everybody's access be looked at again."""
        is_new, fields = self._state.adding, kwargs.get("update_fields")
        with transaction.atomic():
            super().save(*args, **kwargs)
            if not is_new and (fields is None or not set(fields) <= self.harmless_fields):
                access_changed(self.tenant_id)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Remove it, and let everybody's access be looked at again."""
        with transaction.atomic():
            gone = super().delete(*args, **kwargs)
            access_changed(self.tenant_id)
        return gone


class Membership(_Access):
    """A user's place in a tenant."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=ROLES)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        """Oldest first; once per user."""

        abstract = False
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("tenant", "user"), name="member_once"),)

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class Invitations(TenantManager["Invitation"]):
    """Invitations, which are looked up by their token before it is known whose they are."""

    def presented(self, token_hash: str) -> Invitation | None:
        """The one whose token somebody has shown; inside its ``lookup_scope``."""
        return self._unscoped().filter(token_hash=token_hash).first()


class Invitation(TenantOwned):
    """An offer of membership, taken with a token of which only a hash is kept."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=ROLES)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[Invitations] = Invitations()

    class Meta(TenantOwned.Meta):
        """Newest first; one that waits per address."""

        abstract = False
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("tenant", "email"),
                condition=models.Q(accepted_at__isnull=True, revoked_at__isnull=True),
                name="invitation_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.email} {self.role}"

    @property
    def open(self) -> bool:
        """Neither taken, nor withdrawn, nor too old."""
        return self.state == "open"

    @property
    def state(self) -> Literal["open", "accepted", "revoked", "expired"]:
        """Return the state of the invitation."""
        if self.accepted_at is not None:
            return "accepted"
        if self.revoked_at is not None:
            return "revoked"
        return "open" if self.expires_at > timezone.now() else "expired"

    def revoke(self) -> None:
        """Withdraw the offer."""
        self.revoked_at = timezone.now()
        self.save(update_fields=["revoked_at"])

    def accept(self) -> None:
        """The offer is taken."""
        self.accepted_at = timezone.now()
        self.save(update_fields=["accepted_at"])


class ApiKeys(TenantManager["ApiKey"]):
    """Keys, which are looked up before it is known whose they are."""

    def presented(self, key_id: str) -> ApiKey | None:
        """The key that somebody has shown; inside its ``lookup_scope``."""
        return self._unscoped().filter(key_id=key_id).first()


class ApiKey(_Access):
    """A key of the API. Only a hash of its secret is kept: the key is shown once, when it is made.

    It may do what its ``scopes`` say, of what its ``role`` and, where a member made it, that member's role allow.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=200)
    known_as = models.CharField(  # noqa: DJ001 - null: it has given its name up
        max_length=600,
        null=True,
        blank=True,
        editable=False,
        help_text="The name in lower case; unique among active keys of the tenant.",
    )
    key_id = models.CharField(max_length=32, unique=True, editable=False, help_text="The public part of the key.")
    secret_hash = models.CharField(max_length=100, editable=False)
    last4 = models.CharField(max_length=4, editable=False)
    role = models.CharField(max_length=16, choices=ROLES, default=Role.EDITOR.value)
    scopes = models.JSONField(null=True, blank=True, help_text="Scopes that restrict the role; null: no restriction.")
    created_by = models.ForeignKey(
        # Not SET_NULL: that would make the key of a user who is gone a key of the installation.
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, editable=False, related_name="+")

    objects: ClassVar[ApiKeys] = ApiKeys()
    harmless_fields = frozenset({"name", "known_as", "last_used_at"})

    class Meta(TenantOwned.Meta):
        """Newest first; a name is that of one key."""

        abstract = False
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("tenant", "known_as"), name="key_per_name"),)

    def __str__(self) -> str:
        return f"{self.name} (…{self.last4})"

    @property
    def usable(self) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    def revoke(self) -> None:
        """Make the key useless from now on; see ``access_changed`` for how soon that is noticed."""
        if self.revoked_at is None:
            self.revoked_at, self.known_as = timezone.now(), None
            self.save(update_fields=["revoked_at", "known_as"])

    def give_name_up(self) -> None:
        """Leave the name to the key that is about to replace this one."""
        self.known_as = None
        self.save(update_fields=["known_as"])

    def replace(self, successor: ApiKey, *, grace: timedelta) -> None:
        """End in favour of another key, after ``grace``; never later than it would have ended anyway."""
        end = timezone.now() + grace
        self.expires_at = end if self.expires_at is None else min(self.expires_at, end)
        self.replaced_by = successor
        self.save(update_fields=["expires_at", "replaced_by"])


class RefreshTokens(TenantManager["RefreshToken"]):
    """Refresh tokens, which are looked up before it is known whose they are."""

    def presented(self, token_hash: str) -> RefreshToken | None:
        """The token that somebody has shown; inside its ``lookup_scope``."""
        return self._unscoped().filter(token_hash=token_hash).first()


class RefreshToken(TenantOwned):
    """A token that is traded for the next pair, once. One that is shown twice ends its whole ``family``."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    family = models.UUIDField(db_index=True, editable=False)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[RefreshTokens] = RefreshTokens()

    class Meta(TenantOwned.Meta):
        """Newest first."""

        abstract = False
        ordering = ("-id",)

    @property
    def usable(self) -> bool:
        """Neither used, nor revoked, nor too old."""
        return self.used_at is None and self.revoked_at is None and self.expires_at > timezone.now()

    def __str__(self) -> str:
        return str(self.pk)


class UsageCounter(TenantOwned):
    """Amount that a tenant used of something in a period (``2026-11-24`` for a day's)."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=64)
    period = models.CharField(max_length=16)
    count = models.BigIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        """One row per name and period."""

        abstract = False
        constraints = (models.UniqueConstraint(fields=("tenant", "name", "period"), name="usage_once"),)

    def __str__(self) -> str:
        return f"{self.name} {self.period}: {self.count}"


class IdempotentAnswer(TenantOwned):
    """Answer to a ``POST`` with an ``Idempotency-Key``, stored in the transaction of its effects."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    principal = models.CharField(max_length=80)
    route = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta(TenantOwned.Meta):
        """Once per who, where and key."""

        abstract = False
        constraints = (models.UniqueConstraint(fields=("tenant", "principal", "route", "key"), name="idempotent_once"),)

    def __str__(self) -> str:
        return f"{self.route} {self.key}"


class AppendOnlyError(TypeError):
    """A row that may only be added was about to be changed or deleted."""


class AuditEntry(TenantOwned):
    """Something that was done. ``hash`` covers ``previous`` and ``record``: a removal or a change shows.

    ``record`` is the canonical JSON of everything; the other columns repeat parts of it, to search by.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    #: Whose history this is cannot be deleted: see `suspend_tenant`.
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=8)
    actor = models.CharField(max_length=80)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=320)
    record = models.TextField()
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta(TenantOwned.Meta):
        """In order, without holes."""

        abstract = False
        ordering = ("tenant", "seq")
        verbose_name_plural = "audit entries"
        constraints = (models.UniqueConstraint(fields=("tenant", "seq"), name="audit_seq"),)
        indexes = (
            models.Index(fields=("tenant", "action", "-seq"), name="audit_by_action"),
            models.Index(fields=("tenant", "target", "-seq"), name="audit_by_target"),
            models.Index(fields=("tenant", "actor", "-seq"), name="audit_by_actor"),
            models.Index(fields=("tenant", "at"), name="audit_by_time"),
        )

    def __str__(self) -> str:
        return f"{self.seq} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refused for an entry that is stored."""
        if not self._state.adding:
            raise AppendOnlyError("an audit entry never changes")
        super().save(*args, **kwargs)

    def delete(self, *_: Any, **__: Any) -> Any:
        """Refused."""
        raise AppendOnlyError("an audit entry is never deleted")


class AuditHead(TenantOwned):
    """The end of a tenant's chain; its lock gives the numbers out one at a time."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="+")
    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="")

    class Meta(TenantOwned.Meta):
        """One per tenant."""

        abstract = False

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.seq}"

"""Tenants and the keys that act for them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.scoping import TenantOwned


class Tenant(models.Model):
    """Whose workflows, runs and secrets these are. Nothing of one tenant is visible to another."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    slug = models.SlugField(max_length=63, unique=True, help_text="In URLs and logs.")
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        """By slug."""

        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class ApiKey(TenantOwned):
    """A key of the API. Only a hash of its secret is kept: the key is shown once, when it is made."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=200)
    key_id = models.CharField(max_length=32, unique=True, editable=False, help_text="The public part of the key.")
    secret_hash = models.CharField(max_length=100, editable=False)
    last4 = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Newest first."""

        abstract = False
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} (…{self.last4})"

    @property
    def usable(self) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    def revoke(self) -> None:
        """Make the key useless from now on; other processes notice within the cache's time (5 s)."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

"""Providers of secrets: one port, its sources, and the chain of sources that an installation configures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from pyflow.core.ports import SecretSource
from secrets_vault.errors import MasterKeyUnknownError, SecretUnreadableError
from secrets_vault.models import SecretVersion, is_name
from tenants import audit
from tenants.access import Actor

logger = logging.getLogger(__name__)


class TenantSource(SecretSource, Protocol):
    """The secrets of one tenant, and those that a run has seen, to be masked when it goes on in another process."""

    def find(self, name: str) -> tuple[str, str]:
        """The value, and a mark that finds this very value again; ``KeyError`` if there is none of that name."""

    def recall(self, marks: Iterable[str]) -> list[str]:
        """The values of marks that this source gave, as far as they still exist."""

    def valid(self, name: str, overlap: timedelta) -> list[str]:
        """The current value and, for the ``overlap`` after it was replaced, the one before; ``KeyError`` for none."""


class EnvironmentProvider:
    """Secrets that the operator puts into the environment of the workers.

    ``{{ secrets.API_KEY }}`` of tenant ``acme-inc`` is ``PYFLOW_SECRET__ACME_INC__API_KEY``: the tenant is part of the
    name, so that no tenant can read another's.
    """

    MARK = "environment:"

    def __init__(self, tenant_slug: str) -> None:
        self._prefix = f"PYFLOW_SECRET__{tenant_slug.upper().replace('-', '_')}__"

    def get(self, name: str) -> str:
        """The value of a secret; ``KeyError`` if there is none of that name."""
        # Slugs have no `_` and names no `__`: two tenants' variables never have the same name.
        if "__" in name:
            raise KeyError(name)
        return os.environ[self._prefix + name]

    def has(self, name: str) -> bool:
        """Return whether there is a secret of that name."""
        return "__" not in name and self._prefix + name in os.environ

    def find(self, name: str) -> tuple[str, str]:
        return self.get(name), self.MARK + name

    def valid(self, name: str, overlap: timedelta) -> list[str]:  # noqa: ARG002 - the protocol's
        """Return the current value: variables have no earlier ones."""
        return [self.get(name)]

    def recall(self, marks: Iterable[str]) -> list[str]:
        """Return the current values of the variables."""
        names = [mark.removeprefix(self.MARK) for mark in marks if mark.startswith(self.MARK)]
        return [os.environ[self._prefix + name] for name in names if self._prefix + name in os.environ]


class VaultProvider:
    """Secrets of the vault, decrypted at each access: nothing is kept, so a new value is used at once."""

    MARK = "vault:"

    def __init__(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id

    def get(self, name: str) -> str:
        """The current value; ``KeyError`` if there is none, or ``SecretUnreadableError`` naming the secret."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[str, str]:
        version = self._newest(name)[0]
        return self._opened(name, version), f"{self.MARK}{version.secret_id}:{version.number}"

    def valid(self, name: str, overlap: timedelta) -> list[str]:
        newest = self._newest(name)
        is_fresh = timezone.now() - newest[0].created_at < overlap
        kept = [version for version in newest[1:] if is_fresh and version.destroyed_at is None]
        return [self._opened(name, version) for version in (newest[0], *kept)]

    def _newest(self, name: str) -> list[SecretVersion]:
        """The two newest versions of a secret, at least one."""
        if not is_name(name):
            raise KeyError(name)
        rows = SecretVersion.objects.for_tenant(self._tenant_id).select_related("data_key")
        versions = list(rows.filter(secret__name=name).order_by("-number")[:2])
        if not versions:
            raise KeyError(name)
        return versions

    def _opened(self, name: str, version: SecretVersion) -> str:
        try:
            return version.open()
        except SecretUnreadableError:
            # Somebody with access to the database may have put another row's ciphertext here.
            audit.record(by=Actor.system(self._tenant_id, "vault"), action="secret.unreadable", target=f"secret:{name}")
            raise SecretUnreadableError(f"The secret {name} cannot be decrypted; store its value again.") from None
        except MasterKeyUnknownError as error:
            raise MasterKeyUnknownError(f"The secret {name} cannot be decrypted. {error}") from None

    def recall(self, marks: Iterable[str]) -> list[str]:
        """Return each version that the run has seen, unless it was destroyed."""
        wanted = {tuple(mark.removeprefix(self.MARK).split(":")) for mark in marks if mark.startswith(self.MARK)}
        if not wanted:
            return []
        rows = SecretVersion.objects.for_tenant(self._tenant_id).select_related("data_key")
        found = rows.filter(secret__in={secret_id for secret_id, _ in wanted}, destroyed_at__isnull=True)
        return [value for row in found if (str(row.secret_id), str(row.number)) in wanted for value in _opened(row)]


def _opened(version: SecretVersion) -> list[str]:
    try:
        return [version.open()]
    except (SecretUnreadableError, MasterKeyUnknownError) as error:
        # What cannot be decrypted any more cannot be masked either; the run that saw it can still be finished.
        logger.warning("a secret that a run has used cannot be read, so it is not masked: %s", error)
        return []


class ChainProvider:
    """Several sources: the first that has a name gives its value."""

    def __init__(self, sources: Sequence[TenantSource]) -> None:
        self._sources = sources

    def get(self, name: str) -> str:
        """The value in the first source that has it; ``KeyError`` if none does."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[str, str]:
        for source in self._sources:
            try:
                return source.find(name)
            except KeyError:
                continue
        raise KeyError(name)

    def valid(self, name: str, overlap: timedelta) -> list[str]:
        for source in self._sources:
            try:
                return source.valid(name, overlap)
            except KeyError:
                continue
        raise KeyError(name)

    def recall(self, marks: Iterable[str]) -> list[str]:
        marks = list(marks)
        return [value for source in self._sources for value in source.recall(marks)]


#: What `PYFLOW_SECRET_PROVIDERS` may name.
PROVIDERS: Mapping[str, Callable[[UUID, str], TenantSource]] = {
    "vault": lambda tenant_id, slug: VaultProvider(tenant_id),
    "environment": lambda tenant_id, slug: EnvironmentProvider(slug),
}


def secrets_of(tenant_id: UUID, slug: str) -> TenantSource:
    """Return the secrets of a tenant, from the sources of `PYFLOW_SECRET_PROVIDERS`, the first one first."""
    return ChainProvider([PROVIDERS[name](tenant_id, slug) for name in settings.PYFLOW_SECRET_PROVIDERS])

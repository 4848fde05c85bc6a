"""Providers of secrets: one port, its sources, and the chain of sources that an installation configures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from django.conf import settings

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
        if not is_name(name):
            raise KeyError(name)
        rows = SecretVersion.objects.for_tenant(self._tenant_id).select_related("data_key")
        version = rows.filter(secret__name=name).order_by("-number").first()
        if version is None:
            raise KeyError(name)
        try:
            return version.open(), f"{self.MARK}{version.secret_id}:{version.number}"
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

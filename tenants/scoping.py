"""Rows that belong to a tenant, and managers that will not return them without being told whose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.db import connection, models, transaction

from tenants.errors import UnscopedQueryError

ModelT = TypeVar("ModelT", bound=models.Model)


class TenantManager(models.Manager[ModelT]):
    """``objects`` of a tenant-owned model. Its queries begin with ``for_tenant`` or ``across_tenants``."""

    def get_queryset(self) -> NoReturn:
        """Refused: ``UnscopedQueryError``."""
        raise UnscopedQueryError(
            f"{self.model.__name__}.objects needs a tenant: .for_tenant(tenant), or .across_tenants() if that is meant"
        )

    def for_tenant(self, tenant: Any) -> models.QuerySet[ModelT]:
        """The rows of one tenant (a ``Tenant`` or its id)."""
        return self._unscoped().filter(tenant=tenant)

    def across_tenants(self) -> models.QuerySet[ModelT]:
        """The rows of all tenants: for workers, sweepers and migrations, never for a request."""
        return self._unscoped()

    def create(self, **values: Any) -> Any:
        """A new row; its tenant must be among the values."""
        if "tenant" not in values and "tenant_id" not in values:
            raise UnscopedQueryError(f"a new {self.model.__name__} needs a tenant")
        return self._unscoped().create(**values)

    def bulk_create(self, objs: Iterable[ModelT], *args: Any, **options: Any) -> list[ModelT]:
        """Many new rows, each with its tenant."""
        return self._unscoped().bulk_create(objs, *args, **options)

    def _unscoped(self) -> models.QuerySet[ModelT]:
        return models.QuerySet[ModelT](self.model, using=self._db)


class TenantOwned(models.Model):
    """Base of every row that belongs to a tenant."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")

    objects = TenantManager()
    #: For Django itself (admin, cascades, validation). Project code spells its intention through ``objects``.
    unscoped = models.Manager()

    class Meta:
        """Django looks rows up by ``unscoped``."""

        abstract = True
        base_manager_name = "unscoped"
        default_manager_name = "unscoped"


#: The role of PostgreSQL that row-level security holds for. See ``tenants.row_security``.
WEB_ROLE = "pyflow_web"


@contextmanager
def tenant_scope(tenant_id: UUID, *, write: bool) -> Iterator[None]:
    """Work inside one tenant: on PostgreSQL a transaction in which rows of others do not exist, whatever is asked.

    On SQLite, which has no such thing, writes are a transaction and reads are not: there every transaction takes the
    one lock.
    """
    if connection.vendor != "postgresql":
        if not write:
            yield
            return
        with transaction.atomic():
            yield
        return
    nested = connection.in_atomic_block
    with transaction.atomic():
        _enter(WEB_ROLE, str(tenant_id))
        yield
        if nested:  # `SET LOCAL` lasts until the outer transaction ends
            _enter("none", "")


def _enter(role: str, tenant_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('role', %s, true), set_config('pyflow.tenant_id', %s, true)", [role, tenant_id]
        )

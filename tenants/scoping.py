"""Models of rows that belong to a tenant, and managers that return none without a tenant."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.db import connection, models, transaction

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import ask
from tenants.errors import UnscopedQueryError

logger = logging.getLogger(__name__)
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
#: Marks the statements that enter and leave a scope: where statements are counted, these are not an application's.
SCOPE = "/* scope */ "


@contextmanager
def tenant_scope(tenant_id: UUID, *, write: bool) -> Iterator[int | None]:
    """Work inside one tenant: on PostgreSQL a transaction in which rows of others do not exist, whatever is asked.

    Gives the tenant's ``auth_version`` (``None`` if there is no such tenant): a principal of another version is to be
    looked up anew. On SQLite, which has no row-level security, writes are a transaction and reads are not: there every
    transaction takes the one lock.
    """
    if is_postgresql():
        with _postgresql_scope({"pyflow.tenant_id": str(tenant_id)}, "pyflow_auth_version(%s)", tenant_id) as version:
            yield version
        return
    with transaction.atomic() if write else nullcontext():
        yield _one("SELECT auth_version FROM tenants_tenant WHERE id = %s", [tenant_id.hex])


@contextmanager
def lookup_scope(shown: str) -> Iterator[None]:
    """Work with nothing but the row that somebody has shown the unguessable name of, before its tenant is known.

    On PostgreSQL no row is visible but those of which a column named by ``EnableRowSecurity(…, lookup=…)`` has this
    value; they can be read only. Elsewhere it does nothing.
    """
    if not is_postgresql():
        yield
        return
    with _postgresql_scope({"pyflow.lookup": shown}, "NULL"):
        yield


@contextmanager
def _postgresql_scope(settings: Mapping[str, str], question: str, *about: Any) -> Iterator[Any]:
    """One statement more than the transaction itself: it takes the role, sets what policies read, and asks something.

    ``SET LOCAL`` lasts until the outermost transaction ends, so a scope inside another one puts back what was.
    """
    before = _settings() if connection.in_atomic_block else None
    inside = {"role": _role()} | ({} if before is None else dict.fromkeys(_READ_BY_POLICIES, "")) | dict(settings)
    with transaction.atomic():
        yield _set(inside, question, *about)
        if before is not None:
            _set(before, "NULL")


_READ_BY_POLICIES = ("pyflow.tenant_id", "pyflow.lookup")


def _settings() -> dict[str, str]:
    names = ("role", *_READ_BY_POLICIES)
    found = _one("SELECT ARRAY[" + ", ".join("coalesce(current_setting(%s, true), '')" for _ in names) + "]", names)
    return dict(zip(names, found, strict=True))


def _set(settings: Mapping[str, str], question: str, *about: Any) -> Any:
    changes = ", ".join("set_config(%s, %s, true)" for _ in settings)
    return _one(f"SELECT {question}, {changes}", [*about, *(part for setting in settings.items() for part in setting)])


def _one(statement: str, parameters: Sequence[Any]) -> Any:
    return ask(SCOPE + statement, parameters)


_may_take_role: bool | None = None


def _role() -> str:
    """``WEB_ROLE``, or ``none`` (nothing changes) where it cannot be taken, which is logged once."""
    global _may_take_role
    if not _may_take_role:
        before, _may_take_role = _may_take_role, may_take_web_role()
        if before is None and not _may_take_role:
            logger.warning(
                "requests work as the database's user, without row-level security: the role %s is missing or not "
                "granted; see `manage.py check --database default`",
                WEB_ROLE,
            )
    return WEB_ROLE if _may_take_role else "none"


def may_take_web_role() -> bool:
    """Return whether ``WEB_ROLE`` exists and this connection's user may act as it (PostgreSQL)."""
    privilege = "SET" if connection.pg_version >= 160000 else "MEMBER"  # type: ignore[attr-defined] # PostgreSQL's only
    statement = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND pg_has_role(session_user, oid, %s))"
    return bool(_one(statement, [WEB_ROLE, privilege]))

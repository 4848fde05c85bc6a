"""Row-level security of PostgreSQL: the second wall around a tenant's rows, behind the managers.

Every table of a tenant-owned model has a policy that shows a row only where ``pyflow.tenant_id`` is its tenant, and
the web processes work as ``pyflow_web``, which the policies hold for (``tenants.scoping.tenant_scope``). The owner of
the tables is not held by them: it is the role of workers, sweeper, scheduler and migrations, which span tenants. That
is why the policies are not forced on it. An installation that gives its web processes a login of their own, which is
a member of ``pyflow_web`` and nothing else, has no way back from there.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tenants.scoping import WEB_ROLE

_TENANT = "(SELECT nullif(current_setting('pyflow.tenant_id', true), '')::uuid)"
_LOOKUP = "(SELECT nullif(current_setting('pyflow.lookup', true), ''))"
#: Makes the role and lets it work with all tables there are and will be. Users of a database who may not make roles are
#: common: they get a notice here and a warning from ``manage.py check --database default``.
CREATE_ROLE = f"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{WEB_ROLE}') THEN
        CREATE ROLE {WEB_ROLE} NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database of this server is being migrated
    WHEN insufficient_privilege THEN RAISE NOTICE 'the role {WEB_ROLE} could not be made';
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WEB_ROLE}') THEN
        IF NOT pg_has_role(current_user, '{WEB_ROLE}', 'USAGE') THEN
            EXECUTE format('GRANT {WEB_ROLE} TO %I', current_user);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {WEB_ROLE}', current_schema());
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO {WEB_ROLE}', current_schema());
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO {WEB_ROLE}', current_schema());
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {WEB_ROLE}',
            current_schema());
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT ON SEQUENCES TO {WEB_ROLE}', current_schema());
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN RAISE NOTICE '{WEB_ROLE} could not be given its privileges';
END $$;
CREATE OR REPLACE FUNCTION pyflow_auth_version(tenant uuid) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS 'SELECT auth_version FROM tenants_tenant WHERE id = tenant';
"""  # noqa: S608 - made of constants


class CreateWebRole(Operation):
    """Migration operation: the role that the policies hold for, its privileges, and what it may ask outside of them."""

    reduces_to_sql = True
    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Django's models know nothing of roles."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """PostgreSQL only."""
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(CREATE_ROLE, None)  # it has percent signs of its own

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """The role stays: other databases of the server may have it, too."""

    def describe(self) -> str:
        """For ``manage.py migrate`` and ``sqlmigrate``."""
        return f"Create the role {WEB_ROLE}"


class EnableRowSecurity(Operation):
    """Migration operation: the policy of one table. Every new tenant-owned model needs one, after ``CreateModel``::

        EnableRowSecurity("workflows", "Workflow")

    ``tenant`` is the column that says whose a row is. ``lookup`` is a column whose values nobody guesses (a hash of a
    token): who shows one may read its row before it is known whose it is (``tenants.scoping.lookup_scope``).
    ``append_only`` rows can neither be changed nor deleted by ``pyflow_web``.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(
        self, app: str, model: str, *, tenant: str = "tenant_id", lookup: str = "", append_only: bool = False
    ) -> None:
        self.app, self.model = app, model
        self.tenant, self.lookup, self.append_only = tenant, lookup, append_only

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """How Django writes the operation."""
        options: dict[str, Any] = {"tenant": self.tenant, "lookup": self.lookup, "append_only": self.append_only}
        return type(self).__name__, [self.app, self.model], options

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Django's models know nothing of policies."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """PostgreSQL only: SQLite has no row-level security."""
        if schema_editor.connection.vendor == "postgresql":
            for statement in self.statements(schema_editor, to_state.apps.get_model(self.app, self.model)):
                schema_editor.execute(statement)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Without the policy."""
        if schema_editor.connection.vendor == "postgresql":
            table = schema_editor.quote_name(to_state.apps.get_model(self.app, self.model)._meta.db_table)
            schema_editor.execute(f"DROP POLICY IF EXISTS pyflow_tenant ON {table}")
            schema_editor.execute(f"DROP POLICY IF EXISTS pyflow_lookup ON {table}")
            schema_editor.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")

    def statements(self, schema_editor: BaseDatabaseSchemaEditor, model: type[models.Model]) -> list[str]:
        """The SQL of it; it may be executed again."""
        quote = schema_editor.quote_name
        table = quote(model._meta.db_table)
        mine = f"{quote(self.tenant)} = {_TENANT}"
        made = [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS pyflow_tenant ON {table}",
            f"CREATE POLICY pyflow_tenant ON {table} USING ({mine}) WITH CHECK ({mine})",
            f"DROP POLICY IF EXISTS pyflow_lookup ON {table}",
        ]
        if self.lookup:
            made.append(f"CREATE POLICY pyflow_lookup ON {table} FOR SELECT USING ({quote(self.lookup)} = {_LOOKUP})")
        if self.append_only:
            made.append(
                f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WEB_ROLE}') THEN "  # noqa: S608 - names of ours
                f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {WEB_ROLE}; END IF; END $$"
            )
        return made

    def describe(self) -> str:
        """For ``manage.py migrate`` and ``sqlmigrate``."""
        return f"Enable row-level security of {self.app}.{self.model}"

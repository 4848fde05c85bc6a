"""Row-level security of PostgreSQL: the second wall around a tenant's rows, behind the managers.

Every table of a tenant-owned model has a policy that shows a row only where ``pyflow.tenant_id`` is its tenant, and
the web processes work as ``pyflow_web``, which the policies hold for (``tenants.scoping.tenant_scope``). The owner of
the tables is not held by them: it is the role of workers, sweeper, scheduler and migrations, which span tenants. That
is why the policies are not forced on it. An installation that gives its web processes a login of their own, which is
a member of ``pyflow_web`` and nothing else, has no way back from there.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RenameModel
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tenants.scoping import WEB_ROLE

_TENANT = "(SELECT nullif(current_setting('pyflow.tenant_id', true), '')::uuid)"
_LOOKUP = "(SELECT nullif(current_setting('pyflow.lookup', true), ''))"
_HISTORY = "django_migrations"
_EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"
#: Makes the role. Users of a database who may not make roles are common: they get a notice here, a line in the log when
#: they serve requests, and a warning from ``manage.py check --database default``.
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
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {WEB_ROLE}', current_schema());
        GRANT SELECT ON {_HISTORY} TO {WEB_ROLE}; -- readiness asks whether all of it was applied
        IF NOT pg_has_role(current_user, '{WEB_ROLE}', 'USAGE') THEN
            EXECUTE format('GRANT {WEB_ROLE} TO %I', current_user);
        END IF;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN RAISE NOTICE '{WEB_ROLE} could not be given its privileges';
END $$;
CREATE OR REPLACE FUNCTION pyflow_auth_version(tenant uuid) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS 'SELECT auth_version FROM tenants_tenant WHERE id = tenant';
"""  # noqa: S608 - made of constants
#: Takes from the role whatever it was given before: what it needs is given to it table by table.
TAKE_EVERYTHING = f"""
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WEB_ROLE}') THEN
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM {WEB_ROLE}', current_schema());
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM {WEB_ROLE}', current_schema());
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I REVOKE ALL ON TABLES FROM {WEB_ROLE}', current_schema());
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES IN SCHEMA %I REVOKE ALL ON SEQUENCES FROM {WEB_ROLE}', current_schema());
    END IF;
END $$;
"""  # noqa: S608 - made of constants


class _OnPostgresql(Operation):
    """A migration operation that is SQL for PostgreSQL, which may be executed again, and nothing elsewhere."""

    reduces_to_sql = True
    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Django's models know nothing of roles and policies."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """PostgreSQL only: SQLite has no row-level security."""
        if schema_editor.connection.vendor == "postgresql":
            self.apply_to(schema_editor, to_state.apps)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Keep the privileges; they end with their table."""

    def apply_to(self, schema_editor: BaseDatabaseSchemaEditor, apps: Any) -> None:
        """Execute the statements for the models of ``apps``, as a migration or as the program knows them."""
        for statement in self.statements(schema_editor, apps):
            schema_editor.execute(statement, None)  # it may have percent signs of its own

    def statements(self, schema_editor: BaseDatabaseSchemaEditor, apps: Any) -> list[str]:
        """The SQL of it."""
        raise NotImplementedError


class CreateWebRole(_OnPostgresql):
    """Migration operation: the role that the policies hold for, and what it may ask outside of them."""

    def statements(self, schema_editor: BaseDatabaseSchemaEditor, apps: Any) -> list[str]:
        """The SQL of it."""
        return [CREATE_ROLE]

    def describe(self) -> str:
        """For ``manage.py migrate`` and ``sqlmigrate``."""
        return f"Create the role {WEB_ROLE}"


class EnableRowSecurity(_OnPostgresql):
    """Migration operation: policy and privileges of one table. Every new tenant-owned model needs one::

        EnableRowSecurity("workflows", "Workflow")  # after its CreateModel

    ``tenant`` is the column that says whose a row is. ``lookup`` is a column whose values nobody guesses (a hash of a
    token): who shows one may read its row before it is known whose it is (``tenants.scoping.lookup_scope``).
    ``append_only`` rows can neither be changed nor deleted by ``pyflow_web``. ``privileges`` are what it has instead
    of all four.
    """

    def __init__(
        self,
        app: str,
        model: str,
        *,
        tenant: str = "tenant_id",
        lookup: str = "",
        append_only: bool = False,
        privileges: str = _EVERYTHING,
    ) -> None:
        self.app, self.model = app, model
        self.tenant, self.lookup, self.append_only, self.privileges = tenant, lookup, append_only, privileges

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return the operation as Django writes it into a migration."""
        options: dict[str, Any] = {"tenant": self.tenant, "lookup": self.lookup, "append_only": self.append_only}
        return type(self).__name__, [self.app, self.model], options | {"privileges": self.privileges}

    def statements(self, schema_editor: BaseDatabaseSchemaEditor, apps: Any) -> list[str]:
        """The SQL of it."""
        quote = schema_editor.quote_name
        table = quote(apps.get_model(self.app, self.model)._meta.db_table)
        mine = f"{quote(self.tenant)} = {_TENANT}"
        made = [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS pyflow_tenant ON {table}",
            f"CREATE POLICY pyflow_tenant ON {table} USING ({mine}) WITH CHECK ({mine})",
            f"DROP POLICY IF EXISTS pyflow_lookup ON {table}",
        ]
        if self.lookup:
            made.append(f"CREATE POLICY pyflow_lookup ON {table} FOR SELECT USING ({quote(self.lookup)} = {_LOOKUP})")
        return [*made, _grant("SELECT, INSERT" if self.append_only else self.privileges, table)]

    def describe(self) -> str:
        """For ``manage.py migrate`` and ``sqlmigrate``."""
        return f"Enable row-level security of {self.app}.{self.model}"


class GrantToWeb(_OnPostgresql):
    """Migration operation: what ``pyflow_web`` may do with a table whose rows belong to no tenant.

    ``read`` and ``write`` are conditions (SQL) of the rows that it may read, or make and change; all if there are none.
    """

    def __init__(self, app: str, model: str, privileges: str, *, read: str = "true", write: str = "") -> None:
        self.app, self.model, self.privileges, self.read, self.write = app, model, privileges, read, write

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return the operation as Django writes it into a migration."""
        return type(self).__name__, [self.app, self.model, self.privileges], {"read": self.read, "write": self.write}

    def statements(self, schema_editor: BaseDatabaseSchemaEditor, apps: Any) -> list[str]:
        """The SQL of it."""
        table = schema_editor.quote_name(apps.get_model(self.app, self.model)._meta.db_table)
        made = [_grant(self.privileges, table)]
        if self.write:
            made += [
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
                f"DROP POLICY IF EXISTS pyflow_read ON {table}",
                f"CREATE POLICY pyflow_read ON {table} FOR SELECT USING ({self.read})",
                f"DROP POLICY IF EXISTS pyflow_write ON {table}",
                f"CREATE POLICY pyflow_write ON {table} USING ({self.write}) WITH CHECK ({self.write})",
            ]
        return made

    def describe(self) -> str:
        """For ``manage.py migrate`` and ``sqlmigrate``."""
        return f"Let {WEB_ROLE} use {self.app}.{self.model}"


def _grant(privileges: str, table: str) -> str:
    return (
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WEB_ROLE}') THEN "  # noqa: S608 - names of ours
        f"REVOKE ALL ON {table} FROM {WEB_ROLE}; GRANT {privileges} ON {table} TO {WEB_ROLE}; END IF; END $$"
    )


def declared() -> list[_OnPostgresql]:
    """Collect the migrations' operations on roles, privileges and policies, in order: the last one of a table counts.

    A model that was renamed since has its present name.
    """
    loader = MigrationLoader(None, ignore_no_migrations=True)
    plan = dict.fromkeys(key for leaf in loader.graph.leaf_nodes() for key in loader.graph.forwards_plan(leaf))
    found: list[Any] = []
    for app, name in plan:
        for operation in loader.graph.nodes[app, name].operations:
            if isinstance(operation, RenameModel):
                _rename(found, app, operation)
            elif isinstance(operation, _OnPostgresql):
                found.append(copy(operation))  # the migration's own has the name of its time
    return found


def _rename(found: list[Any], app: str, renaming: RenameModel) -> None:
    for operation in found:
        if getattr(operation, "app", "") == app and operation.model.lower() == renaming.old_name_lower:
            operation.model = renaming.new_name


def restore(connection: BaseDatabaseWrapper) -> None:
    """Make role, privileges and policies what the migrations say, whatever they are now (PostgreSQL)."""
    with connection.schema_editor() as editor:
        editor.execute(TAKE_EVERYTHING, None)
        for operation in declared():
            operation.apply_to(editor, apps)


def shortcomings(connection: BaseDatabaseWrapper) -> list[str]:
    """List the reasons that row-level security does not protect this connection, a sentence each (PostgreSQL).

    A database without tables has none: whatever migrates it is checked before.
    """
    if _HISTORY not in connection.introspection.table_names():
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", [WEB_ROLE])
        role = cursor.fetchone()
        if role is None:
            return [f"The role {WEB_ROLE} does not exist."]
        found = [f"The role {WEB_ROLE} is above row-level security."] if role[0] else []
        cursor.execute("SELECT pg_has_role(session_user, %s, 'MEMBER')", [WEB_ROLE])
        if not cursor.fetchone()[0]:
            found.append(f"This process may not act as {WEB_ROLE}.")
        cursor.execute(_TABLES, [WEB_ROLE, WEB_ROLE])
        state = {table: (secured, usable) for table, secured, usable in cursor.fetchall()}
    tables = {_table(operation): operation for operation in declared() if not isinstance(operation, CreateWebRole)}
    needed = {table for table in tables if table in state} | {_HISTORY}
    wrong = {
        "without a policy": [t for t in needed if isinstance(tables.get(t), EnableRowSecurity) and not state[t][0]],
        f"not granted to {WEB_ROLE}": [table for table in needed if not state[table][1]],
        f"granted to {WEB_ROLE} without need": [t for t, (_, usable) in state.items() if usable and t not in needed],
    }
    return found + [f"Tables {what}: {', '.join(sorted(names))}." for what, names in wrong.items() if names]


_TABLES = """
SELECT relname, relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid),
       has_table_privilege(%s, oid, 'SELECT') OR has_any_column_privilege(%s, oid, 'SELECT')
FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
"""


def _table(operation: Any) -> str:
    return str(apps.get_model(operation.app, operation.model)._meta.db_table)

"""The log of events of a tenant, workflows' and triggers' events included, in an order that readers can follow."""

import django.db.models.deletion
from django.db import migrations, models

from tenants.row_security import EnableRowSecurity

#: Transactions are numbered anew in another cluster: what is added continues the log of one that was restored there
#: (``runs.storage.log.continue_log``).
FUNCTIONS = """
CREATE OR REPLACE FUNCTION pyflow_log_base() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 0::bigint';
CREATE OR REPLACE FUNCTION pyflow_log_position() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT pg_current_xact_id()::text::bigint + pyflow_log_base()';
-- A position below it belongs to a transaction that is over, as whoever asks next sees. Transactions of other databases
-- of the server do not count, however long they are. Those of sessions that the owner of this function may not look into
-- cannot be told apart from them: with such sessions, the oldest transaction of the server is the limit.
CREATE OR REPLACE FUNCTION pyflow_log_horizon() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- Before the sessions are looked at: what begins meanwhile is above it, what ends meanwhile is visible later.
    newest bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    oldest bigint;
BEGIN
    PERFORM pg_stat_clear_snapshot();
    IF NOT pg_has_role('pg_read_all_stats', 'USAGE') AND EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usesysid IS NOT NULL AND NOT pg_has_role(usesysid, 'USAGE')
    ) THEN
        RETURN pg_snapshot_xmin(pg_current_snapshot())::text::bigint + pyflow_log_base();
    END IF;
    -- Sessions have the lower 32 bits of the numbers of their transactions.
    SELECT min(newest - behind) INTO oldest FROM (
        SELECT (newest - xid::text::bigint) & 4294967295 AS behind FROM (
            SELECT backend_xid FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL
            UNION ALL SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()
        ) AS active(xid)
    ) AS distances WHERE behind < 2147483648;
    RETURN least(newest, oldest) + pyflow_log_base();
END $$;
"""
NO_FUNCTIONS = """
DROP FUNCTION pyflow_log_horizon(); DROP FUNCTION pyflow_log_position(); DROP FUNCTION pyflow_log_base();
"""


def create_functions(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTIONS, None)


def drop_functions(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(NO_FUNCTIONS, None)


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_key_names"),
        ("runs", "0007_plain_help_texts"),
    ]

    operations = [
        migrations.RunPython(create_functions, drop_functions),
        migrations.AlterModelTable("RunEvent", "runs_runevent"),
        migrations.RenameModel("RunEvent", "EventRecord"),
        migrations.CreateModel(
            name="LogCounter",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ("value", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="LogState",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("removed_to", models.BigIntegerField(default=0)),
            ],
            options={"abstract": False, "base_manager_name": "unscoped", "default_manager_name": "unscoped"},
            managers=[("unscoped", models.manager.Manager())],
        ),
        EnableRowSecurity("runs", "LogState"),
        migrations.AddField(
            "run",
            "log_position",
            models.BigIntegerField(default=0, editable=False, help_text="Of its last event in the tenant's log."),
        ),
        # Events from before this come first, in no order of their own but each run's.
        migrations.AddField("eventrecord", "position", models.BigIntegerField(default=0)),
        migrations.AlterField("eventrecord", "position", models.BigIntegerField()),
        migrations.AddField("eventrecord", "key", models.CharField(blank=True, max_length=255, null=True)),
        migrations.AddField(
            "eventrecord",
            "workflow_name",
            models.CharField(blank=True, db_default="", help_text="Of an event without a run.", max_length=128),
        ),
        migrations.AddField(
            "eventrecord",
            "version_number",
            models.PositiveIntegerField(blank=True, help_text="Of an event without a run.", null=True),
        ),
        migrations.AlterField("eventrecord", "type", models.CharField(max_length=128)),
        migrations.AlterField(
            "eventrecord",
            "run",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, related_name="events", to="runs.run"
            ),
        ),
        migrations.AddIndex("eventrecord", models.Index(fields=["tenant", "position"], name="event_log")),
        migrations.AddIndex(
            "eventrecord",
            models.Index(
                fields=["tenant", "at"], name="event_outside_runs", condition=models.Q(("run__isnull", True))
            ),
        ),
        migrations.AddConstraint(
            "eventrecord",
            models.UniqueConstraint(
                condition=models.Q(("key__isnull", False)), fields=("tenant", "key"), name="event_once_per_key"
            ),
        ),
    ]

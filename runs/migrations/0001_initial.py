import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
import pyflow.core.ids
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from tenants.row_security import EnableRowSecurity


#: An index that only PostgreSQL has. Not of runs without labels: a run's row changes often while it is executed, and each
#: change would be one of the index.
LABELS = """
CREATE INDEX run_labels ON runs_run USING gin (labels jsonb_path_ops) WHERE labels <> '{}'::jsonb
"""


def index_labels(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the index."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(LABELS)


def forget_labels(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the index."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX run_labels")


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('tenants', '0001_initial'),
        ('workflows', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('waiting', 'waiting'), ('paused', 'paused'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('timed_out', 'timed_out')], default='queued', max_length=16)),
                ('trigger', models.CharField(choices=[('api', 'api'), ('manual', 'manual'), ('workflow', 'workflow'), ('schedule', 'schedule'), ('webhook', 'webhook'), ('event', 'event')], default='manual', editable=False, max_length=16)),
                ('started_by', models.JSONField(blank=True, editable=False, help_text='{kind, id, name, request_id}.', null=True)),
                ('labels', models.JSONField(blank=True, default=dict, help_text="The workflow's own and those of the start.")),
                ('dedupe_key', models.CharField(blank=True, editable=False, max_length=255, null=True)),
                ('input', models.JSONField(default=dict)),
                ('input_ref', models.JSONField(blank=True, editable=False, help_text='Where the input is, if it is large.', null=True)),
                ('outputs', models.JSONField(blank=True, null=True)),
                ('outputs_ref', models.JSONField(blank=True, editable=False, help_text='As `input_ref`.', null=True)),
                ('value_bytes', models.PositiveBigIntegerField(default=0, editable=False, help_text='How large what came out of it and is stored apart is, in all.')),
                ('error', models.JSONField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('owner', models.CharField(blank=True, default='', editable=False, max_length=128)),
                ('lease_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('epoch', models.PositiveIntegerField(default=0, editable=False)),
                ('claims', models.PositiveIntegerField(default=0, editable=False)),
                ('losses', models.PositiveIntegerField(default=0, editable=False, help_text='How many executors in a row were lost with it before a node completed.')),
                ('queue', models.CharField(blank=True, default='', editable=False, help_text='Whose workers run it.', max_length=63)),
                ('event_seq', models.PositiveIntegerField(default=0, editable=False)),
                ('compensation', models.CharField(blank=True, default='', help_text='How undoing went, if it did.', max_length=16)),
                ('wake_at', models.DateTimeField(blank=True, help_text='When a waiting run is looked at again.', null=True)),
                ('cancel_requested_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('pause_requested_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('retries', models.PositiveIntegerField(default=0, editable=False, help_text='How often it was taken up again after its end.')),
                ('on_parent_cancel', models.CharField(blank=True, default='', editable=False, help_text='What becomes of it when its parent does not wait for it any more. Empty: the parent never did.', max_length=16)),
                ('priority', models.PositiveSmallIntegerField(default=5, editable=False, help_text='From 1 (last) to 9 (first).')),
                ('queue_deadline', models.DateTimeField(blank=True, help_text='Not started by then, it times out.', null=True)),
                ('lineage', models.JSONField(default=list, editable=False, help_text='Names of the workflows above.')),
                ('secrets_used', models.JSONField(default=list, editable=False, help_text='Which secrets it read; no values.')),
                ('log_lines', models.PositiveIntegerField(default=0, editable=False)),
                ('log_characters', models.PositiveIntegerField(default=0, editable=False)),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='children', to='runs.run')),
                ('source_run', models.ForeignKey(blank=True, editable=False, help_text='The run that this one repeats.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='reruns', to='runs.run')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='workflows.version')),
                ('workflow', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='workflows.workflow')),
            ],
            options={
                'ordering': ('-id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [
                    models.Index(condition=models.Q(('state', 'queued')), fields=['queue', 'tenant', '-priority', 'created_at'], name='run_queue'),
                    models.Index(condition=models.Q(('state', 'running')), fields=['lease_until'], name='run_leases'),
                    models.Index(condition=models.Q(('state', 'waiting')), fields=['wake_at'], name='run_timers'),
                    models.Index(condition=models.Q(('queue_deadline__isnull', False), ('started_at__isnull', True), ('state', 'queued')), fields=['queue_deadline'], name='run_deadlines'),
                    models.Index(condition=models.Q(('losses', 2)), fields=['queue'], name='run_suspects'),
                    models.Index(fields=['tenant', '-created_at', '-id'], name='run_of_tenant'),
                ],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('dedupe_key__isnull', False)), fields=('workflow', 'dedupe_key'), name='run_once_per_key'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='NodeTask',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('run_epoch', models.PositiveIntegerField()),
                ('node_id', models.CharField(max_length=255)),
                ('places', models.JSONField(help_text='The attempts: [attempt, started at, index of the item].')),
                ('queue', models.CharField(blank=True, default='', max_length=63)),
                ('owner', models.CharField(blank=True, default='', max_length=128)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('epoch', models.PositiveIntegerField(default=0)),
                ('losses', models.PositiveIntegerField(default=0)),
                ('outcomes', models.JSONField(blank=True, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='runs.run')),
            ],
            options={
                'ordering': ('id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [
                    models.Index(condition=models.Q(('lease_until__isnull', True), ('outcomes__isnull', True)), fields=['queue', 'id'], name='tasks_queued'),
                    models.Index(condition=models.Q(('lease_until__isnull', False)), fields=['lease_until'], name='tasks_leases'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='NodeRun',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('node_id', models.CharField(max_length=255)),
                ('state', models.CharField(choices=[('pending', 'pending'), ('running', 'running'), ('retrying', 'retrying'), ('waiting', 'waiting'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('skipped', 'skipped'), ('cancelled', 'cancelled'), ('timed_out', 'timed_out')], default='pending', max_length=16)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('output', models.JSONField(blank=True, null=True)),
                ('output_ref', models.JSONField(blank=True, editable=False, help_text='Where the output is, if it is large: {sha256, size}.', null=True)),
                ('error', models.JSONField(blank=True, null=True)),
                ('reason', models.CharField(blank=True, default='', help_text='Why it was skipped; `reused`: from the run that this repeats.', max_length=64)),
                ('tolerated', models.BooleanField(default=False)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('wake_at', models.DateTimeField(blank=True, null=True)),
                ('wait', models.JSONField(blank=True, help_text='What a waiting node waits for.', null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='nodes', to='runs.run')),
            ],
            options={
                'ordering': ('id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('run', 'node_id'), name='node_per_run'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='NodeItem',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('node_id', models.CharField(max_length=255)),
                ('index', models.PositiveIntegerField()),
                ('key', models.TextField()),
                ('state', models.CharField(choices=[('pending', 'pending'), ('running', 'running'), ('retrying', 'retrying'), ('waiting', 'waiting'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('skipped', 'skipped'), ('cancelled', 'cancelled'), ('timed_out', 'timed_out')], max_length=16)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('output', models.JSONField(blank=True, null=True)),
                ('output_ref', models.JSONField(blank=True, editable=False, help_text='Where the output is, if it is large: {sha256, size}.', null=True)),
                ('error', models.JSONField(blank=True, null=True)),
                ('at', models.DateTimeField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='items', to='runs.run')),
            ],
            options={
                'ordering': ('run', 'node_id', 'index'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('run', 'node_id', 'index'), name='item_per_node'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='RunEvent',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('seq', models.PositiveIntegerField()),
                ('type', models.CharField(max_length=32)),
                ('node_id', models.CharField(blank=True, default='', max_length=255)),
                ('at', models.DateTimeField()),
                ('data', models.JSONField(default=dict)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='runs.run')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('run', 'seq'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('run', 'seq'), name='event_seq_per_run'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='RunLog',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('seq', models.PositiveIntegerField()),
                ('node_id', models.CharField(blank=True, default='', help_text='Empty: it is about the log itself.', max_length=255)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('item', models.PositiveIntegerField(blank=True, help_text='The index of the item of a fan-out.', null=True)),
                ('level', models.PositiveSmallIntegerField(choices=[(10, 'debug'), (20, 'info'), (30, 'warning'), (40, 'error'), (50, 'critical')])),
                ('at', models.DateTimeField()),
                ('message', models.TextField()),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='log', to='runs.run')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('run', 'seq'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('run', 'seq'), name='log_seq_per_run'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='RunSignal',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=255)),
                ('payload', models.JSONField(blank=True, null=True)),
                ('dedupe_id', models.CharField(max_length=255)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('consumed', models.BooleanField(default=False, editable=False)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='signals', to='runs.run')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [
                    models.Index(condition=models.Q(('consumed', False)), fields=['run'], name='signals_waiting'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('run', 'dedupe_id'), name='signal_once'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Slot',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('node_id', models.CharField(blank=True, default='', help_text='Empty: it is of the run as a whole.', max_length=255)),
                ('run_epoch', models.PositiveIntegerField(blank=True, help_text="Of a node's slot; null: of the run's.", null=True)),
                ('key', models.TextField(help_text='As it was rendered.')),
                ('lane', models.CharField(help_text='SHA-256 of what the key is of, and the key.', max_length=64)),
                ('limit', models.PositiveIntegerField(help_text='How many may hold a slot when this one takes or gets its own.')),
                ('priority', models.PositiveSmallIntegerField(default=5)),
                ('held', models.BooleanField()),
                ('displaced', models.BooleanField(default=False, help_text='Asked to make room for a newer one.')),
                ('since', models.DateTimeField(default=django.utils.timezone.now, help_text='When it was asked for.')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='slots', to='runs.run')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [
                    models.Index(condition=models.Q(('held', True)), fields=['tenant', 'lane', 'id'], name='slots_held'),
                    models.Index(condition=models.Q(('held', False)), fields=['tenant', 'lane', '-priority', 'id'], name='slots_waiting'),
                ],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('run_epoch__isnull', True)), fields=('run',), name='slot_of_run'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunPython(index_labels, forget_labels),
        EnableRowSecurity("runs", "Run"),
        EnableRowSecurity("runs", "NodeRun"),
        EnableRowSecurity("runs", "NodeItem"),
        EnableRowSecurity("runs", "RunSignal"),
        EnableRowSecurity("runs", "RunEvent"),
        EnableRowSecurity("runs", "NodeTask"),
        EnableRowSecurity("runs", "Slot"),
        EnableRowSecurity("runs", "RunLog"),
    ]

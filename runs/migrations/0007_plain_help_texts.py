"""Help texts in plain English, and the index of poison runs under its new name; no column changes."""

from __future__ import annotations

from typing import Any, ClassVar

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes what the admin shows beside fields."""

    dependencies: ClassVar[Any] = [
        ('runs', '0006_progress'),
    ]

    operations: ClassVar[Any] = [
        migrations.RenameIndex(
            model_name='run',
            new_name='run_poison',
            old_name='run_suspects',
        ),
        migrations.AlterField(
            model_name='nodeitem',
            name='output_ref',
            field=models.JSONField(blank=True, editable=False, help_text='Reference to the output, if it is large: {sha256, size}.', null=True),
        ),
        migrations.AlterField(
            model_name='nodeitem',
            name='started_at',
            field=models.DateTimeField(blank=True, help_text='Start of the first attempt.', null=True),
        ),
        migrations.AlterField(
            model_name='nodeitem',
            name='wake_at',
            field=models.DateTimeField(blank=True, help_text='Time of the next attempt.', null=True),
        ),
        migrations.AlterField(
            model_name='noderun',
            name='output_ref',
            field=models.JSONField(blank=True, editable=False, help_text='Reference to the output, if it is large: {sha256, size}.', null=True),
        ),
        migrations.AlterField(
            model_name='noderun',
            name='progress',
            field=models.JSONField(blank=True, help_text='Last progress report of its attempt: {fraction, message, at, item}.', null=True),
        ),
        migrations.AlterField(
            model_name='noderun',
            name='reason',
            field=models.CharField(blank=True, default='', help_text='Reason why it was skipped. `reused`: the result is from the source run.', max_length=64),
        ),
        migrations.AlterField(
            model_name='noderun',
            name='wait',
            field=models.JSONField(blank=True, help_text='Timer or signal that a waiting node waits for.', null=True),
        ),
        migrations.AlterField(
            model_name='nodetask',
            name='progress',
            field=models.JSONField(blank=True, help_text='Last progress report of its attempts.', null=True),
        ),
        migrations.AlterField(
            model_name='run',
            name='called_by',
            field=models.JSONField(blank=True, editable=False, help_text="Attempt of the parent's node that started it: {node_id, item, attempt, retry}.", null=True),
        ),
        migrations.AlterField(
            model_name='run',
            name='children_to_stop',
            field=models.BooleanField(db_default=False, default=False, editable=False, help_text='It has ended, and some child runs still have to be stopped.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='compensation',
            field=models.CharField(blank=True, default='', help_text='Result of the compensation, if there was one.', max_length=16),
        ),
        migrations.AlterField(
            model_name='run',
            name='input_ref',
            field=models.JSONField(blank=True, editable=False, help_text='Reference to the input, if it is large.', null=True),
        ),
        migrations.AlterField(
            model_name='run',
            name='labels',
            field=models.JSONField(blank=True, default=dict, help_text='Labels of the workflow and of the start.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='lineage',
            field=models.JSONField(default=list, editable=False, help_text='Names of the workflows of its parents.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='losses',
            field=models.PositiveIntegerField(default=0, editable=False, help_text='Consecutive workers lost while executing it, since a node last completed.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='on_parent_cancel',
            field=models.CharField(blank=True, default='', editable=False, help_text='Action when its parent stops waiting for it. Empty: the parent never waited.', max_length=16),
        ),
        migrations.AlterField(
            model_name='run',
            name='outputs_ref',
            field=models.JSONField(blank=True, editable=False, help_text='Reference to the outputs, if they are large.', null=True),
        ),
        migrations.AlterField(
            model_name='run',
            name='priority',
            field=models.PositiveSmallIntegerField(default=5, editable=False, help_text='From 1 (lowest) to 9 (highest).'),
        ),
        migrations.AlterField(
            model_name='run',
            name='queue',
            field=models.CharField(blank=True, default='', editable=False, help_text='Queue whose workers execute it.', max_length=63),
        ),
        migrations.AlterField(
            model_name='run',
            name='queue_deadline',
            field=models.DateTimeField(blank=True, help_text='It times out if it has not started by then.', null=True),
        ),
        migrations.AlterField(
            model_name='run',
            name='retries',
            field=models.PositiveIntegerField(default=0, editable=False, help_text='Number of retries.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='secrets_used',
            field=models.JSONField(default=list, editable=False, help_text='Marks of the secrets that it used, without values.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='value_bytes',
            field=models.PositiveBigIntegerField(default=0, editable=False, help_text='Total bytes of its outputs that are stored outside the row.'),
        ),
        migrations.AlterField(
            model_name='run',
            name='wake_at',
            field=models.DateTimeField(blank=True, help_text='Time at which a waiting run continues.', null=True),
        ),
        migrations.AlterField(
            model_name='runlog',
            name='node_id',
            field=models.CharField(blank=True, default='', help_text='Empty: a line about the log itself.', max_length=255),
        ),
        migrations.AlterField(
            model_name='runsignal',
            name='sender',
            field=models.JSONField(blank=True, editable=False, help_text='Names of the sender, for approvals; null: unknown.', null=True),
        ),
        migrations.AlterField(
            model_name='slot',
            name='displaced',
            field=models.BooleanField(default=False, help_text='True if it has to give the slot to a newer request.'),
        ),
        migrations.AlterField(
            model_name='slot',
            name='key',
            field=models.TextField(help_text='The rendered key.'),
        ),
        migrations.AlterField(
            model_name='slot',
            name='lane',
            field=models.CharField(help_text='SHA-256 of the kind of the slot (run or node) and the key.', max_length=64),
        ),
        migrations.AlterField(
            model_name='slot',
            name='limit',
            field=models.PositiveIntegerField(help_text='Maximum number of holders when this one gets its slot.'),
        ),
        migrations.AlterField(
            model_name='slot',
            name='node_id',
            field=models.CharField(blank=True, default='', help_text='Empty: the slot is of the run as a whole.', max_length=255),
        ),
        migrations.AlterField(
            model_name='slot',
            name='run_epoch',
            field=models.PositiveIntegerField(blank=True, help_text="Epoch of the run, for a node's slot; null: the run's own slot.", null=True),
        ),
        migrations.AlterField(
            model_name='slot',
            name='since',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text='Time of the request.'),
        ),
    ]

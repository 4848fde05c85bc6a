import django.core.validators
import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
import pyflow.core.ids
from django.db import migrations, models

from tenants.row_security import EnableRowSecurity



class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='DataKey',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('version', models.PositiveIntegerField(editable=False)),
                ('master_key', models.CharField(editable=False, help_text='Id of the key that it is wrapped with.', max_length=64)),
                ('made_under', models.CharField(editable=False, help_text='Id of the key it was first wrapped with.', max_length=64)),
                ('wrapped', models.BinaryField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('rewrapped_at', models.DateTimeField(editable=False, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('tenant', '-version'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [
                    models.Index(fields=['master_key'], name='data_key_by_master'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('tenant', 'version'), name='data_key_version'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Secret',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=128, validators=[django.core.validators.RegexValidator('^[A-Z][A-Z0-9_]{0,127}\\Z')])),
                ('description', models.CharField(blank=True, default='', max_length=1000)),
                ('version', models.PositiveIntegerField(default=1, editable=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('name',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('tenant', 'name'), name='secret_name_per_tenant'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='SecretVersion',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField(editable=False)),
                ('nonce', models.BinaryField()),
                ('ciphertext', models.BinaryField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('destroyed_at', models.DateTimeField(editable=False, null=True)),
                ('data_key', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='secrets_vault.datakey')),
                ('secret', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='secrets_vault.secret')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('secret', '-number'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('secret', 'number'), name='secret_version_number'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        EnableRowSecurity("secrets_vault", "DataKey"),
        EnableRowSecurity("secrets_vault", "Secret"),
        EnableRowSecurity("secrets_vault", "SecretVersion"),
    ]

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
import pyflow.core.ids
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from tenants.row_security import CreateWebRole, EnableRowSecurity, GrantToWeb


#: The audit's table takes new rows and nothing else, whoever asks the database. On SQLite a table that a later migration
#: rebuilds loses its triggers: such a migration creates them again.
MESSAGE = "the audit is append-only"
POSTGRESQL = f"""
CREATE FUNCTION tenants_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON tenants_auditentry
    FOR EACH ROW EXECUTE FUNCTION tenants_audit_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON tenants_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION tenants_audit_append_only();
"""
POSTGRESQL_UNDO = """
DROP TRIGGER audit_no_truncate ON tenants_auditentry;
DROP TRIGGER audit_no_change ON tenants_auditentry;
DROP FUNCTION tenants_audit_append_only();
"""
# `INSERT OR REPLACE` deletes without a trigger on DELETE: a row that is there already is therefore refused on INSERT.
SQLITE = (
    f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON tenants_auditentry "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
    f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON tenants_auditentry "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
    f"CREATE TRIGGER audit_no_replace BEFORE INSERT ON tenants_auditentry "
    f"WHEN EXISTS (SELECT 1 FROM tenants_auditentry WHERE id = NEW.id OR (tenant_id = NEW.tenant_id AND seq = NEW.seq)) "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
)
SQLITE_UNDO = ("DROP TRIGGER audit_no_replace", "DROP TRIGGER audit_no_delete", "DROP TRIGGER audit_no_update")


def protect_audit(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers."""
    _execute(schema_editor, (POSTGRESQL,), SQLITE)


def unprotect_audit(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers."""
    _execute(schema_editor, (POSTGRESQL_UNDO,), SQLITE_UNDO)


def _execute(
    schema_editor: BaseDatabaseSchemaEditor, postgresql: tuple[str, ...], sqlite: tuple[str, ...]
) -> None:
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement)


#: Nobody becomes an operator by way of the web, nor changes one's password.
NO_OPERATOR = "NOT is_superuser AND NOT is_staff"


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
        ('guardian', '0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Tenant',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('slug', models.SlugField(help_text='In URLs and logs.', max_length=63, unique=True)),
                ('name', models.CharField(max_length=200)),
                ('plan', models.CharField(choices=[('free', 'free'), ('pro', 'pro'), ('enterprise', 'enterprise')], default='free', max_length=16)),
                ('limits', models.JSONField(blank=True, default=dict, help_text="Quotas that differ from the plan's, by name.")),
                ('auth_version', models.PositiveBigIntegerField(default=0, editable=False, help_text='Counts the changes of who may do what; see `access_changed`.')),
                ('suspended_at', models.DateTimeField(blank=True, help_text='Since when nobody may act for it.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ('slug',),
            },
        ),
        migrations.CreateModel(
            name='AuditHead',
            fields=[
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='tenants.tenant')),
                ('seq', models.PositiveBigIntegerField(default=0)),
                ('hash', models.CharField(default='', max_length=64)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200)),
                ('key_id', models.CharField(editable=False, help_text='The public part of the key.', max_length=32, unique=True)),
                ('secret_hash', models.CharField(editable=False, max_length=100)),
                ('last4', models.CharField(editable=False, max_length=4)),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('editor', 'editor'), ('admin', 'admin'), ('owner', 'owner')], default='editor', max_length=16)),
                ('scopes', models.JSONField(blank=True, help_text='What it is narrowed to; null: nothing.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('replaced_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='tenants.apikey')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('-id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='RefreshToken',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('family', models.UUIDField(db_index=True, editable=False)),
                ('token_hash', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(editable=False, null=True)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('seq', models.PositiveBigIntegerField()),
                ('at', models.DateTimeField()),
                ('actor_kind', models.CharField(max_length=8)),
                ('actor', models.CharField(max_length=80)),
                ('action', models.CharField(max_length=64)),
                ('target', models.CharField(max_length=320)),
                ('record', models.TextField()),
                ('previous', models.CharField(max_length=64)),
                ('hash', models.CharField(max_length=64)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'ordering': ('tenant', 'seq'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant', 'action', '-seq'], name='audit_by_action'), models.Index(fields=['tenant', 'target', '-seq'], name='audit_by_target'), models.Index(fields=['tenant', 'actor', '-seq'], name='audit_by_actor'), models.Index(fields=['tenant', 'at'], name='audit_by_time')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'seq'), name='audit_seq')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='IdempotentAnswer',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('principal', models.CharField(max_length=80)),
                ('route', models.CharField(max_length=200)),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(max_length=64)),
                ('status', models.PositiveSmallIntegerField()),
                ('headers', models.JSONField(default=dict)),
                ('body', models.TextField()),
                ('created_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'principal', 'route', 'key'), name='idempotent_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('email', models.EmailField(max_length=254)),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('editor', 'editor'), ('admin', 'admin'), ('owner', 'owner')], max_length=16)),
                ('token_hash', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField()),
                ('accepted_at', models.DateTimeField(editable=False, null=True)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('invited_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('-id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(condition=models.Q(('accepted_at__isnull', True), ('revoked_at__isnull', True)), fields=('tenant', 'email'), name='invitation_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('editor', 'editor'), ('admin', 'admin'), ('owner', 'owner')], max_length=16)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('id',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'user'), name='member_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='UsageCounter',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=64)),
                ('period', models.CharField(max_length=16)),
                ('count', models.BigIntegerField(default=0)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'name', 'period'), name='usage_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunPython(protect_audit, unprotect_audit),
        CreateWebRole(),
        EnableRowSecurity(
            "tenants",
            "Tenant",
            tenant="id",
            lookup="slug",
            privileges="SELECT, UPDATE (name, auth_version, updated_at)",
        ),
        EnableRowSecurity("tenants", "Membership"),
        EnableRowSecurity("tenants", "Invitation", lookup="token_hash"),
        EnableRowSecurity("tenants", "ApiKey", lookup="key_id"),
        EnableRowSecurity("tenants", "RefreshToken", lookup="token_hash"),
        EnableRowSecurity("tenants", "UsageCounter"),
        EnableRowSecurity("tenants", "IdempotentAnswer"),
        EnableRowSecurity("tenants", "AuditEntry", append_only=True),
        EnableRowSecurity("tenants", "AuditHead"),
        GrantToWeb("auth", "User", "SELECT, INSERT, UPDATE (password, last_login)", write=NO_OPERATOR),
        GrantToWeb("auth", "Group", "SELECT, INSERT"),
        GrantToWeb("auth", "Permission", "SELECT, INSERT"),
        GrantToWeb("contenttypes", "ContentType", "SELECT, INSERT"),
    ]

"""The name of several entries of the audit."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0006_web_privileges'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='auditentry',
            options={'base_manager_name': 'unscoped', 'default_manager_name': 'unscoped', 'ordering': ('tenant', 'seq'), 'verbose_name_plural': 'audit entries'},
        ),
    ]

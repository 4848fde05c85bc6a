from django.db import migrations

from tenants.row_security import EnableRowSecurity


class Migration(migrations.Migration):
    dependencies = [("workflows", "0001_initial"), ("tenants", "0003_row_security")]

    operations = [EnableRowSecurity("workflows", "Workflow"), EnableRowSecurity("workflows", "Version")]

from django.db import migrations

from tenants.row_security import EnableRowSecurity


class Migration(migrations.Migration):
    dependencies = [("runs", "0004_starts"), ("tenants", "0003_row_security")]

    operations = [
        EnableRowSecurity("runs", "Run"),
        EnableRowSecurity("runs", "NodeRun"),
        EnableRowSecurity("runs", "NodeItem"),
        EnableRowSecurity("runs", "RunSignal"),
        EnableRowSecurity("runs", "RunEvent"),
    ]

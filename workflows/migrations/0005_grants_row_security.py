from django.db import migrations

from tenants.row_security import GrantToWeb

#: Guardian's rows name an object of any kind; ours are workflows, whose own policy says whether they are to be seen.
VISIBLE = """EXISTS (SELECT FROM workflows_workflow w WHERE w.id =
    CASE WHEN object_pk ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN object_pk::uuid END)"""
PRIVILEGES = "SELECT, INSERT, DELETE"


class Migration(migrations.Migration):
    dependencies = [
        ("workflows", "0004_frozen_versions"),
        ("tenants", "0003_row_security"),
        ("guardian", "0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more"),
    ]

    operations = [
        GrantToWeb("guardian", "UserObjectPermission", PRIVILEGES, read=VISIBLE, write=VISIBLE),
        GrantToWeb("guardian", "GroupObjectPermission", PRIVILEGES, read=VISIBLE, write=VISIBLE),
    ]

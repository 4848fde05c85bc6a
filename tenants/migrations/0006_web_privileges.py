"""What web processes may do with tables that belong to no tenant, and with tenants themselves."""

from django.conf import settings
from django.db import migrations

from tenants.row_security import EnableRowSecurity, GrantToWeb

#: Nobody becomes an operator by way of the web, nor changes one's password.
NO_OPERATOR = "NOT is_superuser AND NOT is_staff"


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0005_append_only_audit"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("guardian", "0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        EnableRowSecurity(
            "tenants",
            "Tenant",
            tenant="id",
            lookup="slug",
            privileges="SELECT, UPDATE (name, auth_version, updated_at)",
        ),
        GrantToWeb("auth", "User", "SELECT, INSERT, UPDATE (password, last_login)", write=NO_OPERATOR),
        GrantToWeb("auth", "Group", "SELECT, INSERT"),
        GrantToWeb("auth", "Permission", "SELECT, INSERT"),
        GrantToWeb("contenttypes", "ContentType", "SELECT, INSERT"),
    ]

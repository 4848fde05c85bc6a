"""Every table of a tenant's rows has its policy on PostgreSQL."""

import pytest
from django.apps import apps
from django.db.migrations.loader import MigrationLoader

from tenants.row_security import EnableRowSecurity
from tenants.scoping import TenantOwned

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]


def _secured() -> set[tuple[str, str]]:
    migrations = MigrationLoader(None).disk_migrations.values()
    operations = [operation for migration in migrations for operation in migration.operations]
    return {(op.app, op.model.lower()) for op in operations if isinstance(op, EnableRowSecurity)}


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_a_tenant_owned_model_has_row_security_from_a_migration(model):
    name = (model._meta.app_label, model._meta.model_name)
    assert name in _secured(), (
        f"add EnableRowSecurity({name[0]!r}, {model.__name__!r}) from tenants.row_security after its CreateModel"
    )

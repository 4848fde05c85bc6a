"""Every table of a tenant's rows has its policy on PostgreSQL."""

import pytest
from django.apps import apps
from django.db.migrations import RenameModel
from django.db.migrations.loader import MigrationLoader

from tenants.row_security import EnableRowSecurity
from tenants.scoping import TenantOwned

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]


def _secured() -> set[tuple[str, str]]:
    """The models with a policy; a policy stays with a table whose model gets another name."""
    migrations = MigrationLoader(None).disk_migrations.items()
    operations = [(app, operation) for (app, _), migration in migrations for operation in migration.operations]
    secured = {(op.app, op.model.lower()) for _, op in operations if isinstance(op, EnableRowSecurity)}
    renamed = [(app, op.old_name_lower, op.new_name_lower) for app, op in operations if isinstance(op, RenameModel)]
    return secured | {(app, new) for app, old, new in renamed if (app, old) in secured}


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_a_tenant_owned_model_has_row_security_from_a_migration(model):
    name = (model._meta.app_label, model._meta.model_name)
    assert name in _secured(), (
        f"add EnableRowSecurity({name[0]!r}, {model.__name__!r}) from tenants.row_security after its CreateModel"
    )

"""Commands of operators: a misspelt tenant, a database that is not there, a master key that is lost."""

import base64
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.db import OperationalError, connection

from pyflow_site.commands import run
from secrets_vault.errors import SecretUnreadableError
from secrets_vault.models import DataKey, Secret
from secrets_vault.rotation import master_key_state
from secrets_vault.services import create_secret, find_secret, replace_secret
from tenants.models import ApiKey, AuditEntry, Tenant
from tests.support.factories.rows import HELLO, a_test, make_tenant

OURS = ("tenants", "secrets_vault", "runs")
ARGUMENTS = {
    "createkey": [],
    "createtenant": ["acme"],
    "prune": [],
    "repaircounters": [],
    "rotate_master_key": [],
    "rowsecurity": [],
    "runworkflow": ["FILE"],
    "setplan": ["acme", "free"],
    "suspendtenant": ["acme"],
    "verify_audit": [],
}


def test_every_command_is_tested():
    assert {name for name, app in get_commands().items() if app in OURS} == ARGUMENTS.keys()


# --- tenants


@pytest.mark.parametrize("command", ["createkey", "runworkflow"])
def test_a_misspelt_tenant_is_not_made(transactional_db, tmp_path: Path, command: str):
    make_tenant("acme")
    arguments = [command, *arguments_of(command, tmp_path), "--tenant", "acne"]
    with pytest.raises(CommandError, match=r"no tenant 'acne'. Do you mean 'acme'.*--create"):
        call_command(*arguments)
    assert list(Tenant.objects.values_list("slug", flat=True)) == ["acme"]


def test_a_tenant_is_made_where_that_is_said(transactional_db):
    call_command("createkey", "--tenant", "new", "--create", stdout=StringIO())
    call_command("createkey", stdout=StringIO())
    slugs = ApiKey.objects.across_tenants().values_list("tenant__slug", flat=True)
    assert sorted(slugs) == ["default", "new"]


# --- the database


def arguments_of(command: str, folder: Path) -> list[str]:
    file = folder / "hello.yaml"
    file.write_text(HELLO.replace("inputs: {who: string}\n", ""))
    return [str(file) if argument == "FILE" else argument for argument in ARGUMENTS[command]]


@pytest.fixture
def elsewhere(transactional_db) -> Iterator[dict[str, object]]:
    """The connection's settings, which a test may change; it connects anew."""
    before = dict(connection.settings_dict)
    connection.close()
    yield connection.settings_dict
    connection.close()
    connection.settings_dict.update(before)


@pytest.mark.parametrize("command", sorted(ARGUMENTS.keys() - {"rowsecurity"}))
def test_an_empty_database_is_to_be_migrated(elsewhere, tmp_path: Path, command: str):
    elsewhere["NAME"] = tmp_path / "empty.sqlite3"
    with pytest.raises(SystemExit) as ended:
        run(["manage.py", command, *arguments_of(command, tmp_path)])
    assert str(ended.value).startswith("manage.py: the database is not migrated (no such table")
    assert "manage.py migrate" in str(ended.value)


@pytest.mark.parametrize("command", [*sorted(ARGUMENTS.keys() - {"rowsecurity"}), "migrate"])
def test_a_database_that_is_away_is_to_be_looked_at(elsewhere, tmp_path: Path, command: str):
    elsewhere["NAME"] = tmp_path / "nowhere" / "db.sqlite3"
    with pytest.raises(SystemExit) as ended:
        run(["manage.py", command, *(arguments_of(command, tmp_path) if command in ARGUMENTS else [])])
    (line,) = str(ended.value).splitlines()
    assert line.startswith("manage.py: the database cannot be reached (unable to open database file)")
    assert "DATABASE_URL" in line


def test_a_traceback_is_shown_to_who_asks(elsewhere, tmp_path: Path):
    elsewhere["NAME"] = tmp_path / "nowhere" / "db.sqlite3"
    with pytest.raises(OperationalError):
        run(["manage.py", "verify_audit", "--traceback"])


# --- the master key


def test_a_lost_master_key_has_a_way_out(transactional_db, settings):
    tenant = make_tenant()
    create_secret(name="API_KEY", value="the old value", by=a_test(tenant))
    settings.PYFLOW_MASTER_KEYS = f"new:{base64.b64encode(os.urandom(32)).decode()}"
    assert master_key_state() == "lost"
    with pytest.raises(CommandError, match="Not everything could be done"):
        call_command("rotate_master_key", stdout=StringIO())
    out = StringIO()
    call_command("rotate_master_key", "--abandon-lost", stdout=out)
    assert "Values given up, because their master key is lost: 1." in out.getvalue()
    assert master_key_state() == "ok"
    entry = AuditEntry.objects.for_tenant(tenant).get(action="data_key.abandoned")
    assert "API_KEY" in entry.record
    secret = find_secret(tenant_id=tenant.pk, name="API_KEY")
    with pytest.raises(SecretUnreadableError):
        secret.versions.get(number=1).open()
    replace_secret(secret=secret, value="the new value", by=a_test(tenant))
    assert Secret.objects.for_tenant(tenant).get().versions.get(number=2).open() == "the new value"
    assert DataKey.objects.for_tenant(tenant).get().master_key == "new"
    call_command("rotate_master_key", "--abandon-lost", stdout=out)
    assert "is lost: 0." in out.getvalue()

"""`manage.py rotate_master_key`, while secrets are read and written, and killed half-way."""

import base64
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from pyflow.isolation.parent import end_with_parent
from secrets_vault.models import DataKey, SecretVersion
from secrets_vault.providers import VaultProvider
from secrets_vault.services import find_secret, replace_secret
from tenants.access import Actor
from tenants.models import AuditEntry, Tenant
from tests.support import waiting
from tests.support.factories.rows import make_tenant
from tests.support.factories.secrets import make_secret
from tests.support.processes.platform import ROOT, environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
OLD = f"old:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"new:{base64.b64encode(b'n' * 32).decode()}"


@pytest.fixture
def tenants(settings) -> list[Tenant]:
    """Three tenants whose data keys are wrapped with the old master key; the new one is current."""
    settings.PYFLOW_MASTER_KEYS = OLD
    tenants = [make_tenant() for _ in range(3)]
    for tenant in tenants:
        make_secret(tenant, value=f"value of {tenant.slug}")
    settings.PYFLOW_MASTER_KEYS = f"{NEW},{OLD}"
    return tenants


def rotate(*arguments: str) -> str:
    output = StringIO()
    call_command("rotate_master_key", *arguments, stdout=output)
    return output.getvalue().splitlines()[-1]


def masters() -> Counter[str]:
    return Counter(DataKey.objects.across_tenants().values_list("master_key", flat=True))


def assert_readable(tenants: list[Tenant]) -> None:
    for tenant in tenants:
        assert VaultProvider(tenant.pk).get("API_KEY") == f"value of {tenant.slug}"


def test_afterwards_the_old_master_key_can_be_thrown_away(tenants, settings):
    assert_readable(tenants)
    assert rotate().startswith("Data keys wrapped with new: 3 now, 0 before.")
    settings.PYFLOW_MASTER_KEYS = NEW
    assert_readable(tenants)


def test_doing_it_again_changes_nothing(tenants):
    rotate("--data-keys")
    rows = list(DataKey.objects.across_tenants().values()), list(SecretVersion.objects.across_tenants().values())
    count = AuditEntry.objects.across_tenants().count()
    assert rotate("--data-keys") == (
        "Data keys wrapped with new: 0 now, 3 before. Data keys replaced: 0; values encrypted anew: 0."
    )
    assert rows == (
        list(DataKey.objects.across_tenants().values()),
        list(SecretVersion.objects.across_tenants().values()),
    )
    assert AuditEntry.objects.across_tenants().count() == count


def test_secrets_themselves_are_not_touched_unless_that_is_asked_for(tenants):
    before = list(SecretVersion.objects.across_tenants().values("pk", "nonce", "ciphertext"))
    rotate()
    assert list(SecretVersion.objects.across_tenants().values("pk", "nonce", "ciphertext")) == before


def test_with_data_keys_everything_is_encrypted_anew(tenants, settings):
    before = {bytes(version.ciphertext) for version in SecretVersion.objects.across_tenants()}
    line = rotate("--data-keys", "--batch-size", "1")
    assert line.endswith("Data keys replaced: 3; values encrypted anew: 3.")
    assert not before & {bytes(version.ciphertext) for version in SecretVersion.objects.across_tenants()}
    assert set(DataKey.objects.across_tenants().values_list("version", "made_under")) == {(2, "new")}
    settings.PYFLOW_MASTER_KEYS = NEW
    assert_readable(tenants)


def test_each_tenant_finds_it_in_its_audit(tenants):
    rotate("--data-keys")
    for tenant in tenants:
        entries = AuditEntry.objects.for_tenant(tenant).filter(actor="rotate_master_key").order_by("seq")
        assert [entry.action for entry in entries] == ["data_key.rewrapped", "data_key.created", "data_key.removed"]


def test_a_key_that_cannot_be_unwrapped_stops_no_other(tenants, settings):
    DataKey.objects.for_tenant(tenants[1]).update(master_key="lost")
    with pytest.raises(CommandError, match="'lost', which is not among PYFLOW_MASTER_KEYS"):
        rotate()
    assert masters() == {"new": 2, "lost": 1}


def test_without_a_master_key_it_says_what_to_do(settings):
    settings.PYFLOW_MASTER_KEYS = ""
    with pytest.raises(CommandError, match="openssl rand -base64 32"):
        rotate()


@pytest.mark.parametrize("arguments", [[], ["--data-keys"]], ids=["master keys", "data keys"])
def test_killed_half_way_it_goes_on_where_it_was(tenants, tmp_path, settings, arguments):
    settings.PYFLOW_MASTER_KEYS = OLD
    more = [make_tenant() for _ in range(60)]
    for tenant in more:
        make_secret(tenant, value=f"value of {tenant.slug}")
    settings.PYFLOW_MASTER_KEYS = f"{NEW},{OLD}"
    kill_after = 5 if not arguments else 63 + 20
    command = [sys.executable, "manage.py", "rotate_master_key", "--batch-size", "1", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(tmp_path, PYFLOW_MASTER_KEYS=f"{NEW},{OLD}"),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
    ) as process:
        assert process.stdout is not None
        for _ in range(kill_after):
            assert process.stdout.readline().strip().endswith("values")
        os.kill(process.pid, signal.SIGKILL)
    made = Counter(DataKey.objects.across_tenants().values_list("made_under", flat=True))
    unfinished = masters() if not arguments else made
    assert unfinished["old"] > 0, "it was killed too late"
    assert unfinished["new"] > 0, "it was killed too early"
    assert_readable([*tenants, *more])

    rotate(*arguments)
    assert masters() == {"new": 63}
    if arguments:
        assert set(DataKey.objects.across_tenants().values_list("version", "made_under")) == {(2, "new")}
    settings.PYFLOW_MASTER_KEYS = NEW
    assert_readable([*tenants, *more])


def test_reading_and_writing_go_on_meanwhile(tenants, settings):
    """Both are done by other threads, over and over, while data keys are replaced; nothing fails or is lost."""
    stop, problems, written = threading.Event(), [], Counter()

    def work(tenant: Tenant) -> None:
        try:
            while not stop.is_set():
                secret = find_secret(tenant_id=tenant.pk, name="API_KEY")
                value = f"value {secret.version + 1}"
                replace_secret(secret=secret, value=value, by=Actor.system(tenant.pk, "a test"))
                assert VaultProvider(tenant.pk).get("API_KEY") == value
                written[tenant.slug] += 1
        except Exception as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in tenants]
    for thread in threads:
        thread.start()
    try:
        waiting.until(lambda: len(written) == 3, what="first writes")
        rotate("--data-keys", "--batch-size", "2")
        seen = dict(written)
        waiting.until(lambda: problems or all(written[slug] > seen[slug] for slug in seen), what="writes afterwards")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []
    settings.PYFLOW_MASTER_KEYS = NEW
    for tenant in tenants:
        for version in SecretVersion.objects.for_tenant(tenant).filter(number__gt=1):
            assert version.open() == f"value {version.number}"

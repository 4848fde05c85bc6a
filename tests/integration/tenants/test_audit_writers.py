"""Everybody writes to one tenant's audit at once: one chain comes of it, and nothing is lost."""

import pytest
from django.db import transaction

from tenants import audit
from tenants.models import AuditEntry
from tenants.services import create_tenant
from tests.support.at_once import at_once
from tests.support.factories.rows import a_test

pytestmark = pytest.mark.fleet


def test_fifty_writers_make_one_chain(transactional_db):
    tenant = create_tenant(slug="busy")

    def write() -> None:
        for number in range(4):
            with transaction.atomic():
                audit.record(by=a_test(tenant), action="test.written", target=f"test:{number}")

    at_once(*[write] * 50)
    read = audit.Verification()
    assert list(audit.verify(tenant_id=tenant.pk, progress=read)) == []
    assert AuditEntry.objects.for_tenant(tenant).filter(action="test.written").count() == 200
    assert read.entries == read.seq == AuditEntry.objects.for_tenant(tenant).count()

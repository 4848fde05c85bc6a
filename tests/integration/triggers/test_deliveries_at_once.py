"""A delivery that comes several times at once starts one run."""

import threading

import pytest
from django.db import connections

from runs.models import Run
from tests.support.api import read
from tests.support.factories.hooks import SECRET, by_github, deliver, make_hook
from tests.support.factories.secrets import make_secret
from triggers.models import HookDelivery

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
BODY = {"n": 1}


def test_a_delivery_that_comes_several_times_at_once_starts_one_run(tenant):
    make_secret(tenant, "HOOK", SECRET)
    make_hook(tenant)
    answers = []
    barrier = threading.Barrier(4)

    def send():
        try:
            barrier.wait()
            answers.append(read(deliver(tenant, BODY, by_github(BODY))))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = Run.objects.for_tenant(tenant).get()
    assert {answer["run_id"] for answer in answers} == {str(run.pk)}
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    assert HookDelivery.objects.for_tenant(tenant).count() == 4

"""A cursor on the log of a tenant, while transactions commit in another order than they began."""

import random
import threading
from functools import partial
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import reading
from events.cursor import Cursor
from events.reading import EventFilter, LogPage, read
from pyflow.core.events import EventType
from runs.models import EventRecord, Run
from runs.storage import log
from tests.support.factories.rows import make_run, make_tenant
from tests.support.streams import happen

pytestmark = [pytest.mark.fleet, pytest.mark.django_db(transaction=True)]


class Reader:
    """Follows the log of a tenant, and keeps what it has seen."""

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.cursor: Cursor | None = None
        self.seen: list[EventRecord] = []

    def read(self, limit: int = 200) -> LogPage:
        page = read(self.tenant_id, after=self.cursor, limit=limit)
        self.cursor = page.next
        self.seen += page.events
        return page

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.seen]


class Writer(threading.Thread):
    """Writes an event in a transaction of its own, in steps that the test decides."""

    def __init__(self, tenant_id: UUID, type: str, *, commits: bool = True) -> None:
        super().__init__(daemon=True)
        self.tenant_id, self.type, self.commits = tenant_id, type, commits
        self.wrote, self.may_end = threading.Event(), threading.Event()
        self.start()
        assert self.wrote.wait(30)

    def run(self) -> None:
        with transaction.atomic():
            log.append_outside(tenant_id=self.tenant_id, type=self.type, at=timezone.now(), data={})
            self.wrote.set()
            self.may_end.wait(30)
            transaction.set_rollback(not self.commits)
        connection.close()

    def end(self) -> None:
        self.may_end.set()
        self.join(30)


def test_who_takes_a_number_first_and_commits_last_is_not_skipped():
    tenant = make_tenant()
    reader, bystander = Reader(tenant.pk), Reader(make_tenant().pk)
    early = Writer(tenant.pk, "order.early")
    late = Writer(tenant.pk, "order.late")
    late.end()
    assert [reader.read().events, bystander.read().events] == [[], []]
    early.end()
    reader.read()
    assert reader.types == ["order.early", "order.late"]
    assert reader.read().events == []


def test_what_is_rolled_back_holds_nobody_up():
    tenant = make_tenant()
    reader = Reader(tenant.pk)
    early, late = Writer(tenant.pk, "order.early", commits=False), Writer(tenant.pk, "order.late")
    late.end()
    reader.read()
    early.end()
    reader.read()
    assert reader.types == ["order.late"]


@pytest.mark.breaks_invariant(
    "each_claim_starts_a_run_once", "the_last_event_is_the_end", reason="events are written by hand"
)
def test_events_of_a_run_are_in_order_though_the_older_transaction_writes_later():
    """The older one has a number, then waits for the run, which the younger one has written to."""
    tenant = make_tenant()
    run = make_run(tenant)
    reader = Reader(tenant.pk)
    reader.read()
    began, younger_done = threading.Event(), threading.Event()

    def older() -> None:
        with transaction.atomic():
            log.append_outside(tenant_id=tenant.pk, type="order.older", at=timezone.now(), data={})
            began.set()
            younger_done.wait(30)
            append(run.pk, EventType.RUN_PAUSED)
        connection.close()

    thread = threading.Thread(target=older, daemon=True)
    thread.start()
    began.wait(30)
    with transaction.atomic():
        append(run.pk, EventType.RUN_STARTED)
    reader.read()
    assert reader.types[-1] == "run.queued"
    younger_done.set()
    thread.join(30)
    reader.read(limit=1)
    reader.read(limit=1)
    reader.read(limit=1)
    assert [event.seq for event in reader.seen if event.run_id] == [1, 2, 3]


def append(run_id: UUID, type: EventType) -> None:
    run = Run.objects.across_tenants().select_for_update().get(pk=run_id)
    log.append(run, [(type, "", {"state": run.state})], at=timezone.now())
    run.save(update_fields=log.RUN_FIELDS)


def test_readers_see_all_of_many_writers_once():
    """Eight threads write in transactions of random length; two readers with pages of random size follow."""
    tenant, chance = make_tenant(), random.Random(7)
    readers, left = [Reader(tenant.pk), Reader(tenant.pk)], threading.Semaphore(0)

    def write(number: int, sizes: list[int]) -> None:
        for size in sizes:
            with transaction.atomic():
                for _ in range(size):
                    log.append_outside(tenant_id=tenant.pk, type=f"order.of{number}", at=timezone.now(), data={})
        connection.close()
        left.release()

    plans = [[chance.randrange(1, 6) for _ in range(15)] for _ in range(8)]
    threads = [threading.Thread(target=write, args=(number, plan), daemon=True) for number, plan in enumerate(plans)]
    for thread in threads:
        thread.start()
    while not all(not thread.is_alive() for thread in threads):
        for reader in readers:
            reader.read(limit=chance.randrange(1, 40))
    for reader in readers:
        while reader.read().events:
            pass
        ids = [event.pk for event in reader.seen]
        assert len(ids) == len(set(ids)) == sum(map(sum, plans))


def test_a_long_transaction_of_another_database_of_the_server_holds_nobody_up():
    tenant = make_tenant()
    reader = Reader(tenant.pk)
    settings = connection.settings_dict
    connect = partial(psycopg.connect, host=settings["HOST"], port=settings["PORT"], user=settings["USER"])
    with connect(dbname="postgres", password=settings["PASSWORD"]) as neighbour:
        neighbour.execute("SELECT pg_current_xact_id()")
        log.append_outside(tenant_id=tenant.pk, type="order.placed", at=timezone.now(), data={})
        reader.read()
        neighbour.rollback()
    assert reader.types == ["order.placed"]


def test_the_log_of_a_database_that_was_restored_to_another_server_goes_on():
    """There, transactions are numbered from a lower number: what comes must not be sorted before what there is."""
    tenant = make_tenant()
    reader = Reader(tenant.pk)
    event = log.append_outside(tenant_id=tenant.pk, type="order.old", at=timezone.now(), data={})
    EventRecord.objects.for_tenant(tenant).filter(pk=event.pk).update(position=event.position + 10**6)
    log.continue_log()
    log.append_outside(tenant_id=tenant.pk, type="order.new", at=timezone.now(), data={})
    reader.read()
    assert reader.types == ["order.old", "order.new"]
    before = log.horizon()
    log.continue_log()
    assert before <= log.horizon() <= before + 5


def test_a_filter_that_few_events_meet_costs_a_bounded_number_of_them_a_page(monkeypatch):
    monkeypatch.setattr(reading, "SCANNED", 5)
    tenant = make_tenant()
    happen(tenant, "custom.made", 12)
    happen(tenant, "custom.rare")
    happen(tenant, "custom.made", 3)
    wanted = EventFilter(types=("custom.rare",))
    pages: list[LogPage] = []
    while not pages or pages[-1].has_more:
        pages.append(read(tenant.pk, after=pages[-1].next if pages else None, wanted=wanted))
    assert [[event.type for event in page.events] for page in pages] == [[], [], ["custom.rare"], []]
    many = read(tenant.pk, wanted=EventFilter(types=("custom.made",)), limit=3)
    assert (len(many.events), many.has_more, many.next) == (3, True, Cursor.of(many.events[-1]))


def test_the_plan_of_a_filtered_page_reads_a_part_of_the_log(monkeypatch):
    monkeypatch.setattr(reading, "SCANNED", 20)
    tenant = make_tenant()
    # So many, of so many transactions, that no plan takes reading all of them for cheaper.
    for _ in range(50):
        with transaction.atomic():
            log.append_all_outside(
                tenant.pk, [EventRecord(type="custom.made", at=timezone.now(), data={"n": n}) for n in range(200)]
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runs_runevent")
    with CaptureQueriesContext(connection) as captured:
        page = read(tenant.pk, wanted=EventFilter(types=("custom.rare",), workflows=("orders",)))
    assert (page.events, page.has_more) == ([], True)
    [statement] = [query["sql"] for query in captured if "workflows_workflow" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "event_log" in plan
    assert "Seq Scan on runs_runevent" not in plan

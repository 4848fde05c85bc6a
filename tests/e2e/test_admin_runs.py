"""What operators ask of runs in the admin: by the verbs, once it is confirmed, with an entry in the audit."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission as ModelPermission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from runs.models import NodeTask, Run
from tenants.access import Role
from tenants.models import AuditEntry, Membership, Tenant
from tests.support.factories.nodes import workflow
from tests.support.factories.records import record
from tests.support.factories.rows import make_member, make_run, make_superuser, make_tenant
from tests.support.invariants import made_of_rows

pytestmark = [pytest.mark.api, pytest.mark.e2e, made_of_rows]
LIST = "admin:runs_run_changelist"
ENTRIES = {
    "cancel": "run.cancel_requested",
    "terminate": "run.terminated",
    "pause": "run.paused",
    "resume": "run.resumed",
    "retry": "run.retried",
    "rerun": "run.rerun",
}


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def run(tenant: Tenant) -> Run:
    return make_run(tenant)


def post(client: Client, action: str, *runs: Run, **more: str) -> str:
    posted = {"action": action, "_selected_action": [str(run.pk) for run in runs], **more}
    return client.post(reverse(LIST), posted, follow=True).content.decode()


def page(client: Client, run: Run) -> str:
    return client.get(reverse("admin:runs_run_change", args=[run.pk])).content.decode()


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def entries(tenant: Tenant) -> list[tuple[str, str]]:
    rows = AuditEntry.objects.for_tenant(tenant).filter(action__startswith="run.").order_by("seq")
    return [(entry.action, json.loads(entry.record)["actor"]["name"]) for entry in rows]


def staff(member: Membership) -> Client:
    member.user.is_staff = True
    member.user.save()
    member.user.user_permissions.set(ModelPermission.objects.all())
    client = Client()
    client.force_login(member.user)
    return client


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [("cancel", "waiting", "queued"), ("terminate", "queued", "cancelled"), ("retry", "failed", "queued")],
)
def test_what_cannot_be_taken_back_is_asked_first(root, tenant, run, action: str, before: str, after: str):
    other = make_run(tenant)
    Run.objects.for_tenant(tenant).update(state=before)
    asked = post(root, action, run, other)
    assert f"{action.capitalize()} 2 runs?" in asked
    assert (str(run.pk) in asked, state(run), entries(tenant)) == (True, before, [])
    assert "2 runs" in post(root, action, run, other, confirmed="yes")
    assert [state(run), state(other)] == [after, after]
    assert entries(tenant) == [(ENTRIES[action], "root")] * 2


def test_a_run_is_paused_and_resumed_without_a_question(root, tenant, run):
    assert "1 run pausing" in post(root, "pause", run)
    assert state(run) == "paused"
    assert "1 run resumed" in post(root, "resume", run)
    assert state(run) == "queued"
    assert entries(tenant) == [("run.paused", "root"), ("run.resumed", "root")]


def test_a_run_is_started_anew_from_a_node(root, tenant, run):
    record(run)
    asked = post(root, "rerun", run, back="run")
    assert '<option value="greet">' in asked
    shown = post(root, "rerun", run, back="run", confirmed="yes", version="latest", **{"from": "greet"})
    again = Run.objects.for_tenant(tenant).get(source_run=run)
    assert (again.state, f"<code>{again.pk}</code>" in shown) == ("queued", True)
    assert entries(tenant) == [("run.rerun", "root")]


def test_what_a_run_refuses_is_a_message(root, tenant, run):
    other = make_run(tenant)
    Run.objects.for_tenant(tenant).filter(pk=other.pk).update(state="succeeded")
    told = post(root, "pause", run, other)
    assert "1 run pausing" in told
    assert "The run has ended already, as succeeded." in told
    assert "no node" in post(root, "rerun", run, confirmed="yes", **{"from": "nothing"})


def test_of_very_many_runs_none_is_touched(root, tenant, run, monkeypatch):
    monkeypatch.setattr("runs.admin.runs.MOST_RUNS", 1)
    assert "Select at most 1 runs" in post(root, "terminate", run, make_run(tenant), confirmed="yes")
    assert state(run) == "queued"


def test_runs_of_several_tenants_are_audited_in_each(root, tenant, run):
    elsewhere = make_tenant("other")
    post(root, "terminate", run, make_run(elsewhere), confirmed="yes")
    assert entries(tenant) == entries(elsewhere) == [("run.terminated", "root")]


def test_the_page_of_a_run_says_why_and_offers_what_is_possible(root, tenant):
    source = workflow(
        "{id: a, type: log, config: {message: a}}", "{id: b, type: log, depends_on: [a], config: {message: b}}"
    )
    run = make_run(tenant, source)
    html = page(root, run)
    assert "it is the next run of its tenant" in html
    assert "Waits for a." in html
    assert 'title="The run is not paused."' in html
    shown = post(root, "pause", run, back="run")
    assert "no node starts until the run is resumed" in shown
    assert f"<code>{run.pk}</code>" in shown


def test_who_may_only_read_is_offered_nothing_and_changes_nothing(tenant, run):
    viewer = staff(make_member(tenant, Role.VIEWER))
    html = page(viewer, run)
    assert ("Explanation</h2>" in html, 'id="verbs"' in html) == (True, False)
    post(viewer, "terminate", run, confirmed="yes")
    assert state(run) == "queued"


def test_an_editor_acts_on_runs_of_their_tenants_only(tenant, run):
    hidden = make_run(make_tenant("other"))
    editor = staff(make_member(tenant, Role.EDITOR))
    assert str(hidden.pk) not in post(editor, "terminate", run, hidden)
    post(editor, "terminate", run, hidden, confirmed="yes")
    assert (state(run), state(hidden)) == ("cancelled", "queued")


def test_a_role_in_one_tenant_gives_nothing_in_another(tenant, run):
    member = make_member(tenant, Role.VIEWER)
    other = make_tenant("other")
    Membership.objects.create(tenant=other, user=member.user, role=Role.EDITOR.value)
    asked = post(staff(member), "terminate", run)
    assert "None of the selected runs can be changed" in asked
    post(staff(member), "terminate", run, confirmed="yes")
    assert state(run) == "queued"


def test_the_first_page_shows_what_waits_and_who_works(root, tenant, run):
    lost, busy = make_run(tenant), make_run(tenant)
    now = timezone.now()
    for row, owner, seconds in ((lost, "worker-7", -9), (busy, "worker-8", 99)):
        Run.objects.for_tenant(tenant).filter(pk=row.pk).update(
            state="running", owner=owner, lease_until=now + timedelta(seconds=seconds)
        )
    NodeTask.objects.create(tenant=tenant, run=busy, run_epoch=1, node_id="a", places=[[1, 0.0, None]], queue="gpu")
    there = root.get(reverse("admin:index")).context["load"]
    assert [(queue.name, queue.runs, queue.tasks, queue.oldest) for queue in there.queues] == [
        ("", 1, 0, run.created_at),
        ("gpu", 0, 1, None),
    ]
    assert [(worker.owner, worker.runs, worker.alive) for worker in there.workers] == [
        ("worker-7", 1, False),
        ("worker-8", 1, True),
    ]


def test_the_load_of_all_tenants_is_the_operators(tenant, run):
    index = staff(make_member(tenant, Role.OWNER)).get(reverse("admin:index"))
    assert "load" not in index.context
    assert "Active workers" not in index.content.decode()

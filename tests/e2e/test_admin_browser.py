"""The operators' screens in Chromium, which enforces the policy that the server sends."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, sync_playwright

from tests.support.factories.records import record
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import made_of_rows
from tests.support.passwords import HASHED, PASSWORD
from tests.support.servers import launcher

pytestmark = [pytest.mark.browser, pytest.mark.e2e, made_of_rows]
#: Redoc would load its maker's logo; the policy is what keeps readers from telling them.
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
PAGES = [
    "admin:index",
    "admin:runs_run_changelist",
    "admin:tenants_tenant_changelist",
    "admin:tenants_apikey_add",
    "admin:secrets_vault_secret_add",
    "docs",
    "redoc",
    "problems",
]


@pytest.fixture
def runs(transactional_db) -> tuple[str, str]:
    """The addresses of a finished run and of one that waits in the queue, and somebody who may see them."""
    User.objects.create(username="root", is_staff=True, is_superuser=True, password=HASHED)
    tenant = make_tenant("acme")
    finished, queued = make_run(tenant), make_run(tenant)
    record(finished)
    first, second = (reverse("admin:runs_run_change", args=[run.pk]) for run in (finished, queued))
    return first, second


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to say: refused scripts and styles, and errors."""
    return []


@pytest.fixture
def page(runs, live_server, complaints: list[str]) -> Iterator[Page]:
    """A browser that somebody has logged in with."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=launcher.chromium_program(), args=["--no-sandbox"])
        page = browser.new_page(base_url=live_server.url)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/login/")
        page.fill("#id_username", "root")
        page.fill("#id_password", PASSWORD)
        page.click("input[type=submit]")
        yield page
        browser.close()


def test_no_page_breaks_the_policy(page: Page, complaints: list[str]):
    for name in PAGES:
        answer = page.goto(reverse(name), wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200
    assert [text for text in complaints if LOGO not in text] == []


def test_a_run_is_drawn_and_one_that_goes_on_is_looked_at_again(page: Page, runs, complaints: list[str]):
    finished, queued = runs
    page.goto(finished)
    assert page.locator("#graph svg rect").count() > 1
    assert page.locator("#timeline svg").is_visible()
    assert "greet" in page.locator("#nodes").inner_text()
    assert "run.succeeded" in page.locator("#events").inner_text()
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    page.goto(queued)
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.click("text=Stop")
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    assert complaints == []


def test_a_run_is_terminated_once_that_is_confirmed(page: Page, runs, complaints: list[str]):
    _, queued = runs
    page.goto(queued)
    assert "it is the next run of its tenant" in page.locator("#explanation").inner_text()
    assert page.locator("#verbs button:has-text('Resume')").is_disabled()
    page.click("#verbs button:has-text('Terminate')")
    assert "No node is compensated" in page.inner_text("#content")
    page.click("#confirm input[type=submit]")
    assert page.url.endswith(queued)
    assert "1 run terminated" in page.inner_text(".messagelist")
    assert page.locator("#verbs button:has-text('Terminate')").is_disabled()
    assert complaints == []

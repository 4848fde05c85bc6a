"""The operators' screens in Chromium, which enforces the policy that the server sends."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse
from playwright.sync_api import Page, sync_playwright

from runs.models import Run
from tests.support.factories.records import record
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import made_of_rows
from tests.support.passwords import HASHED, PASSWORD
from tests.support.servers import asgi, launcher

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
        log_in(page)
        yield page
        browser.close()


def log_in(page: Page) -> None:
    page.goto("/admin/login/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")


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


def test_pages_of_a_run_and_of_its_tenant_follow_what_happens(runs, complaints: list[str]):
    queued = Run.objects.across_tenants().select_related("tenant").get(state="queued")
    with asgi.serving("daphne") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=launcher.chromium_program(), args=["--no-sandbox"])
        context = browser.new_context(base_url=f"http://{address}")
        context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page = context.new_page()
        log_in(page)
        page.goto(reverse("admin:tenants_tenant_change", args=[queued.tenant_id]))
        usage = page.locator(".field-usage").inner_text()
        other = context.new_page()
        other.goto(runs[1])
        assert "run.succeeded" not in other.locator("#events").inner_text()
        run_in_thread(record, queued)
        other.locator("#events:has-text('run.succeeded')").wait_for()
        assert other.locator("#graph svg rect").count() > 1
        run_in_thread(make_run, queued.tenant)
        page.wait_for_function("text => document.querySelector('.field-usage').innerText !== text", arg=usage)
        browser.close()
    assert complaints == []


def run_in_thread(function: Callable[..., object], *arguments: object) -> None:
    """Playwright has an event loop in this thread, in which Django refuses queries."""

    def run() -> None:
        function(*arguments)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


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

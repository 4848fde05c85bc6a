"""The story of `examples/story`: a push starts a run, its end another one, and everybody is told of it live.

The server, the receiver of webhooks and the page are processes, started as `examples/README.md` says; the page is read
in Chromium.
"""

import hashlib
import hmac
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, sync_playwright

from pyflow_client import Client
from tests.support import waiting
from tests.support.factories.rows import make_api_key, make_tenant
from tests.support.processes.platform import ROOT, Process, Server
from tests.support.servers import launcher

pytestmark = [pytest.mark.database, pytest.mark.browser, pytest.mark.e2e]
STORY = ROOT / "examples" / "story"
GITHUB_SECRET = "what only GitHub and we know"
PUSH = {
    "ref": "refs/heads/v2.0",
    "repository": {"full_name": "acme/shop"},
    "pusher": {"name": "ada"},
}


class Story:
    """The platform, what was stored there, and the programs around it."""

    def __init__(self, server: Server, receiver: Process, page: Process, page_url: str) -> None:
        self.server, self.receiver, self.page = server, receiver, page
        self.page_url = page_url

    def push(self, secret: str = GITHUB_SECRET) -> int:
        """Send a push as GitHub does, and return the status of the answer."""
        body = json.dumps(PUSH).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        url = f"http://127.0.0.1:{self.server.port}/hooks/acme/github/push"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def story(single: dict[str, str], tmp_path: Path) -> Iterator[Story]:
    tenant = make_tenant("acme")
    key = make_api_key(tenant)[1]
    with ExitStack() as stack:
        server = stack.enter_context(Server(single, tmp_path / "server.log", key))
        url = f"http://127.0.0.1:{server.port}"
        ports = launcher.free_port(), launcher.free_port()
        with Client(url, key) as client:
            client.create_secret("GITHUB_SECRET", GITHUB_SECRET)
            for name in ("release", "announce", "review"):
                client.put_workflow(name, (STORY / f"{name}.yaml").read_text())
            endpoint = client.create_webhook(
                f"http://127.0.0.1:{ports[0]}/", types=["run.succeeded"], workflows=["announce"]
            )
        environment = {**os.environ, "WEBHOOK_SECRET": endpoint.secret, "PYFLOW_URL": url, "PYFLOW_API_KEY": key}
        programs = [
            stack.enter_context(
                Program([sys.executable, str(STORY / name), str(port)], environment, tmp_path / f"{name}.log", port)
            )
            for name, port in zip(("receiver.py", "page.py"), ports, strict=True)
        ]
        yield Story(server, programs[0], programs[1], f"http://127.0.0.1:{ports[1]}/")


class Program(Process):
    """A program that listens on a port."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path, port: int) -> None:
        self._port = port
        super().__init__(command, env, log)

    def is_ready(self) -> bool:
        """Whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture
def page(story: Story) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=launcher.chromium_program(), args=["--no-sandbox"])
        page = browser.new_page(base_url=story.page_url)
        page.goto("/")
        yield page
        browser.close()


def test_a_push_is_followed_to_its_announcement(story: Story, page: Page, tmp_path: Path):
    page.wait_for_selector("#state:has-text('live')")
    with Client(f"http://127.0.0.1:{story.server.port}", story.server.key) as client:
        [schedule] = client.schedules()
        client.fire_schedule(schedule.id)
    page.wait_for_selector("tr.node\\.waiting:has-text('review')")  # it waits for a decision all the time

    assert story.push("not the secret") == 404
    assert story.push() == 202
    page.wait_for_selector("tr.run\\.succeeded:has-text('release')")
    page.wait_for_selector("tr.run\\.succeeded:has-text('announce')")
    waiting.until(lambda: "verified: run.succeeded of announce" in story.receiver.log(), what="webhook")
    assert "refused" not in story.receiver.log()

    with Client(f"http://127.0.0.1:{story.server.port}", story.server.key) as client:
        [announced] = client.runs(workflow="announce")
        assert client.run(announced.id).outputs == {"announced": "acme/shop v2.0, pushed by ada"}
        [approval] = client.approvals()
        assert approval.workflow == "review"
        shown = page.locator("#events tr").count()
        log = client.event_log().results
    waiting.until(lambda: page.locator("#events tr").count() >= len(log), what=f"events beyond {shown}")
    texts = page.locator("#events tr td:nth-child(2)").all_inner_texts()
    assert [text for text in reversed(texts) if text != "node.progress"] == [event.type for event in log]
    page.screenshot(path=tmp_path / "story.png")

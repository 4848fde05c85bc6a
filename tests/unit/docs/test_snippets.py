"""Every snippet of the documentation does what the page says it does.

On a page, `yaml title="x"` and `json title="x"` blocks are files; `sh` and `python` blocks are run in a folder with
them, one after the other, and a `text` block behind one is what it prints (`…` stands for anything). `sh exit=3` names
the exit code. Blocks marked `norun` install or start things; `NOT_RUN` counts them, so that none is added by accident.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyflow.execution.plan import compile_plan
from pyflow.isolation.parent import end_with_parent
from pyflow.nodes import default_registry
from pyflow.validation.loader import parse_workflow
from pyflow_client import Client, ClientError
from tests.repo_shape.tree import ROOT
from tests.support import template
from tests.support.servers.launcher import free_port

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
NOT_RUN = {
    "README.md": 2,
    "docs/execution.md": 1,
    "docs/how-to/access.md": 2,
    "docs/how-to/follow-events.md": 1,
    "docs/how-to/platform.md": 1,
    "docs/how-to/remote.md": 1,
    "docs/how-to/schedules.md": 1,
    "docs/how-to/secrets.md": 3,
    "docs/how-to/storage.md": 2,
    "docs/how-to/tenants.md": 1,
    "docs/how-to/write-a-plugin.md": 1,
    "docs/reference/limits.md": 1,
}
BLOCK = re.compile(r"^```(\S*)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else its first line says, and its text."""

    language: str
    info: str
    text: str

    @property
    def title(self) -> str | None:
        match = re.search(r'title="([^"]+)"', self.info)
        return match[1] if match else None

    @property
    def runs(self) -> bool:
        return self.language in {"sh", "python"} and "norun" not in self.info

    @property
    def exit_code(self) -> int:
        match = re.search(r"exit=(\d+)", self.info)
        return int(match[1]) if match else 0

    @property
    def command(self) -> list[str]:
        return ["/bin/sh", "-ec", self.text] if self.language == "sh" else [sys.executable, "-c", self.text]


def blocks(page: Path) -> list[Block]:
    return [Block(*match.groups()) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUNNABLE = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, django_db_setup) -> Iterator[dict[str, str]]:
    """The environment of the snippets: this installation, and a server for those that want one."""
    home = tmp_path_factory.mktemp("home")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYFLOW_", "DATABASE_", "REDIS_"))
    }
    env = inherited | {"PATH": path, "PYFLOW_HOME": str(home), "PYTHONIOENCODING": "utf-8"}
    manage = [sys.executable, str(ROOT / "manage.py")]
    template.copy_to(home / "pyflow.sqlite3")
    made = subprocess.run([*manage, "createkey"], env=env, check=True, capture_output=True, text=True)
    key, port = made.stdout.strip(), free_port()
    command = [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), "pyflow_site.asgi:application"]
    serving = env | {"PYFLOW_ALLOWED_NETWORKS": "127.0.0.0/8"}  # receivers of webhooks are on this machine
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(
            command,
            env=serving,
            cwd=ROOT,
            stderr=log,
            stdout=log,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
        ) as server,
    ):
        try:
            wait_until_ready(port, server)
            yield env | {"PYFLOW_URL": f"http://127.0.0.1:{port}", "PYFLOW_KEY": key}
        finally:
            server.terminate()


def wait_until_ready(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    with Client(f"http://127.0.0.1:{port}") as client:
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if client.health().ok:
                    return
            except ClientError:
                time.sleep(0.05)
    raise AssertionError("the server for the snippets did not start")


@pytest.mark.django_db  # the server's database begins with a copy of the tests'
@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, environment: dict[str, str]):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    page_blocks = blocks(page)
    for block, after in zip(page_blocks, [*page_blocks[1:], None], strict=True):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        if not block.runs:
            continue
        done = subprocess.run(
            block.command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
        printed = done.stdout.decode()
        assert done.returncode == block.exit_code, f"{block.text}\n{printed}"
        if after is not None and after.language == "text":
            assert re.fullmatch(pattern(after.text), printed.strip(), re.DOTALL), f"{block.text}\n{printed}"


def pattern(text: str) -> str:
    """What is printed, as a pattern; spaces at the ends of lines do not show on a page."""
    return r"\s*\n".join(re.escape(line.rstrip()).replace("…", ".*?") for line in text.strip().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_workflow_on_a_page_is_valid(page: Path):
    for block in blocks(page):
        if block.language == "yaml":
            compile_plan(parse_workflow(block.text), default_registry)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_is_left_out_by_accident(page: Path):
    left_out = [block for block in blocks(page) if "norun" in block.info]
    assert len(left_out) == NOT_RUN.get(name(page), 0)
    known = {"sh", "python", "yaml", "json", "text", "toml", "mermaid", "sql", "js"}
    assert {block.language for block in blocks(page)} <= known


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[\w-]+)?\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), target


def test_what_follows_from_the_code_is_current():
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python docs/generate.py`: {done.stdout}{done.stderr}"

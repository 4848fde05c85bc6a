"""`manage.py up`: the whole platform by one command, and none of it left when that ends."""

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pyflow.isolation.parent import end_with_parent
from pyflow_client import Client, ClientError
from tests.repo_shape.tree import ROOT
from tests.support import template

pytestmark = pytest.mark.e2e
SECONDS = 90
HELLO = """
version: 2
name: hello
outputs: {greeting: "{{ greet }}"}
nodes: [{id: greet, type: template, config: {template: "Hello"}}]
"""


class Platform:
    """A running `manage.py up`."""

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.environment = environment
        self.lines: list[str] = []
        self.client = Client(f"http://127.0.0.1:{port}")
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - two system calls
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.health().ok:
                    return
            except ClientError:
                time.sleep(0.1)
        raise AssertionError("".join(self.lines))

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def finish(self) -> int:
        """Wait for the end of all of it: every child holds the other end of the pipe."""
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert not self._reader.is_alive(), "a child outlived its parent"
        return status


@contextmanager
def up(port: int, home: Path, **more: str) -> Iterator[Platform]:
    inherited = {key: value for key, value in os.environ.items() if key not in {"DATABASE_URL", "REDIS_URL"}}
    platform = Platform(port, inherited | {"PYFLOW_HOME": str(home)} | more)
    try:
        yield platform
    finally:
        if platform.process.poll() is None:
            platform.process.terminate()
        platform.finish()
        platform.client.close()
        assert platform.process.stdout is not None
        platform.process.stdout.close()


def run_hello(platform: Platform, port: int) -> object:
    made = subprocess.run(
        [sys.executable, "manage.py", "createkey"],
        cwd=ROOT,
        env=platform.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    with Client(f"http://127.0.0.1:{port}", made.stdout.strip()) as client:
        client.put_workflow("hello", HELLO)
        return client.wait(client.start_run("hello").id, SECONDS).outputs


def test_without_redis_it_is_the_single_node_server(tmp_path: Path, free_port: int):
    with up(free_port, tmp_path) as platform:
        platform.wait_until_ready()
        assert len(platform.children()) == 1
        assert run_hello(platform, free_port) == {"greeting": "Hello"}
        with up(free_port, tmp_path) as second:
            assert second.finish() == 1
        assert f"127.0.0.1:{free_port} is in use" in "".join(second.lines)
        platform.process.send_signal(signal.SIGINT)
        assert platform.finish() == 0
    assert "up     | stopped\n" in platform.lines
    assert all(re.match(r"(up|web) +\| ", line) for line in platform.lines)


@pytest.fixture(scope="module")
def fleet(django_db_setup) -> Iterator[dict[str, str]]:
    """A migrated database of its own beside the one that the tests' transactions are in, and the session's Redis."""
    url, name = os.environ["DATABASE_URL"], f"up_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.NAME}")
        yield {"DATABASE_URL": url.rpartition("/")[0] + f"/{name}", "REDIS_URL": os.environ["REDIS_URL"]}
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.fleet
@pytest.mark.django_db
def test_with_redis_it_is_web_worker_and_beat_and_one_that_dies_ends_all(
    tmp_path: Path, free_port: int, fleet: dict[str, str]
):
    with up(free_port, tmp_path, **fleet) as platform:
        platform.wait_until_ready()
        assert run_hello(platform, free_port) == {"greeting": "Hello"}
        web, worker, beat = platform.children()
        os.kill(worker, signal.SIGKILL)
        assert platform.finish() == 1
    assert any("worker ended by itself (exit status -9); stopping the rest" in line for line in platform.lines)
    assert not any(Path(f"/proc/{pid}").exists() for pid in (web, worker, beat))


@pytest.mark.fleet
@pytest.mark.django_db
def test_the_children_end_with_a_parent_that_is_killed(tmp_path: Path, free_port: int, fleet: dict[str, str]):
    with up(free_port, tmp_path, **fleet) as platform:
        platform.wait_until_ready()
        platform.process.kill()
        assert platform.finish() == -signal.SIGKILL

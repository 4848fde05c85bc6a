"""The tests' own surroundings: real servers, no network, locks that agree."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from tests.repo_shape import tree
from tests.support import corpora, waiting
from tests.support.servers import network


def test_a_connection_beyond_this_machine_is_refused():
    with socket.socket() as sock, pytest.raises(network.NetworkRefused, match=r"203\.0\.113\.1"):
        sock.connect(("203.0.113.1", 80))


def test_a_name_beyond_this_machine_is_refused():
    with pytest.raises(network.NetworkRefused, match=r"pyflow\.example"):
        socket.getaddrinfo("pyflow.example", 80)


async def test_an_asynchronous_connection_beyond_this_machine_is_refused():
    with pytest.raises(network.NetworkRefused):
        await asyncio.open_connection("203.0.113.1", 80)


def test_loopback_is_reachable(free_port: int):
    with socket.create_server(("127.0.0.1", free_port)), socket.create_connection(("localhost", free_port)):
        pass


def test_literals_of_inet_aton_resolve_without_a_name_server():
    assert socket.getaddrinfo("0x7f000001", 80)[0][4] == ("127.0.0.1", 80)


@pytest.mark.parametrize("name", sorted(path.stem for path in corpora.folder().glob("*.json")))
def test_a_corpus_has_distinct_cases(name: str):
    cases = corpora.load(name)
    assert cases
    assert len({case["id"] for case in cases}) == len(cases)


@pytest.mark.fleet
def test_postgresql_is_real_and_named_in_the_environment():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT current_setting('server_version_num')::int, 1 + 1").fetchone()
    assert row is not None
    assert row[0] >= 150_000
    assert row[1] == 2


@pytest.mark.fleet
def test_redis_is_real_and_named_in_the_environment():
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.set("surroundings", "here", ex=5)
        assert client.get("surroundings") == b"here"


SERVE_UNTIL_KILLED = """
import sys, time
from tests.support.servers import launcher

with getattr(launcher, sys.argv[1])() as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def left_behind() -> Iterator[Path]:
    """Return a folder for what a killed process leaves, which a server may enter as another user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize(
    "kind",
    [pytest.param("redis", marks=pytest.mark.fleet), pytest.param("mariadb", marks=pytest.mark.mariadb)],
)
def test_a_server_does_not_outlive_a_parent_that_is_killed(kind: str, left_behind: Path):
    environment = {key: value for key, value in os.environ.items() if key != "PYFLOW_TEST_REDIS_URL"}
    environment["TMPDIR"] = str(left_behind)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE_UNTIL_KILLED, kind],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree.ROOT,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        port = urlsplit(parent.stdout.readline().strip()).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)):
            pass
        parent.kill()
    waiting.until(lambda: _is_closed(port), what="end of the server")


def _is_closed(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_the_smaller_locks_hold_the_versions_of_the_largest():
    largest = _locked("dev")
    for name in ("core", "platform"):
        locked = _locked(name)
        assert locked
        assert locked <= largest


def test_every_locked_version_has_a_hash():
    for path in (tree.ROOT / "requirements").glob("*.txt"):
        entries = re.split(r"\n(?=\S)", path.read_text().strip())
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def _locked(name: str) -> set[tuple[str, str]]:
    text = Path(tree.ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

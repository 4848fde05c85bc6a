"""Files that the `http` node sends: in pieces, whole, and what they were when they were announced."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyflow.core.result import NodeRun
from pyflow.net.files import ConfinedFiles, current_root
from tests.support.processes import memory
from tests.unit.nodes.web import Asked, Reply, Web, run, serving

MIB = 1024 * 1024
#: More than sockets buffer, so that most of it is still to be read when the first bytes arrive.
LARGE = 64 * MIB


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as started:
        yield started


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    token = current_root.set(tmp_path)
    yield tmp_path
    current_root.reset(token)


@pytest.fixture
def large(storage: Path) -> Path:
    path = storage / "large.bin"
    with path.open("wb") as file:
        file.truncate(LARGE)
    os.utime(path, (1, 1))
    return path


async def send(web: Web, body: dict[str, Any], *, attempts: int = 1, **config: Any) -> NodeRun:
    config |= {"url": web.url, "method": "PUT", "allow_private_networks": True, **body}
    retry = {"max_attempts": attempts, "initial_interval": 0}
    return (await run({"id": "n", "type": "http", "config": config, "retry": retry})).nodes["n"]


def is_open(path: Path) -> bool:
    """Whether a descriptor of this process is that file."""
    found = path.stat()
    for number in os.listdir("/dev/fd"):  # noqa: PTH208 - descriptors, no files
        with contextlib.suppress(OSError):  # the listing's own
            if os.path.samestat(os.fstat(int(number)), found):
                return True
    return False


BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "file": lambda path: {"file": path},
    "multipart": lambda path: {"multipart": {"fields": {"a": "b"}, "files": [{"name": "f", "path": path}]}},
}
every_kind = pytest.mark.parametrize("kind", sorted(BODIES))

PROGRAM = """
    import asyncio, json, os, sys
    from pyflow.net.files import current_root
    from tests.support.processes import memory
    from tests.unit.nodes.web import node

    async def main(root, config):
        current_root.set(root)
        for path in ("small.bin", "large.bin"):
            before = memory.peak()
            ended = await node("http", json.loads(config.replace("PATH", path)))
            assert ended.error is None, ended.error.message
        print(memory.peak() - before)

    from pathlib import Path
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@every_kind
def test_a_large_file_is_sent_in_little_memory(web: Web, storage: Path, large: Path, kind: str):
    (storage / "small.bin").write_bytes(b"small")
    config = {"url": web.url, "method": "PUT", "allow_private_networks": True, **BODIES[kind]("PATH")}
    grown = int(memory.printed_by(PROGRAM, storage, json.dumps(config)))
    assert grown < 8 * MIB
    assert web.asked[1].size >= LARGE


@every_kind
async def test_the_length_is_announced_and_right(web: Web, large: Path, kind: str):
    assert (await send(web, BODIES[kind]("large.bin"))).error is None
    (asked,) = web.asked
    assert asked.headers["content-length"] == str(asked.size)
    assert "transfer-encoding" not in asked.headers


async def test_an_empty_file_is_sent_as_one(web: Web, storage: Path):
    (storage / "empty").touch()
    assert (await send(web, {"file": "empty"})).error is None
    assert web.asked[0].headers["content-length"] == "0"


async def test_another_attempt_opens_the_file_again(web: Web, storage: Path):
    files = ConfinedFiles(storage)
    files.write("a", b"first")

    def answer(asked: Asked) -> Reply:
        if len(web.asked) > 1:
            return Reply("ok")
        files.write("a", b"the second content")
        return Reply({}, 503)

    web.answer = answer
    assert (await send(web, {"file": "a"}, attempts=2)).error is None
    assert [asked.body for asked in web.asked] == [b"first", b"the second content"]


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, LARGE // 2)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LARGE - 1)
        file.write(b"x")


@every_kind
@pytest.mark.parametrize("change", [append, cut, overwrite])
async def test_a_file_that_changes_under_way_is_never_sent_as_whole(
    web: Web, large: Path, kind: str, change: Callable[[Path], None]
):
    web.arriving = lambda: change(large)
    ended = await send(web, BODIES[kind]("large.bin"))
    assert ended.error is not None
    assert (ended.error.code, ended.error.type) == ("file_changed", "FileChangedError")
    (asked,) = web.asked
    assert asked.over.wait(20)
    assert asked.size < int(asked.headers["content-length"])


async def test_a_file_that_changed_is_sent_anew_by_the_next_attempt(web: Web, large: Path):
    web.arriving = lambda: append(large) if len(web.asked) == 1 else None
    ended = await send(web, {"file": "large.bin"}, attempts=2)
    assert (ended.error, ended.attempts) == (None, 2)
    assert web.asked[1].size == LARGE + 4


async def test_a_file_that_is_replaced_under_way_is_sent_as_it_was(web: Web, storage: Path, large: Path):
    web.arriving = lambda: ConfinedFiles(storage).write("large.bin", b"new")
    assert (await send(web, {"file": "large.bin"})).error is None
    assert web.asked[0].size == LARGE
    assert ConfinedFiles(storage).read("large.bin") == b"new"


async def test_a_redirect_does_not_send_another_file_than_the_one_announced(web: Web, storage: Path):
    files = ConfinedFiles(storage)
    files.write("a", b"first")

    def answer(asked: Asked) -> Reply:
        files.write("a", b"other")
        return Reply({}, 307, {"Location": "/there"})

    web.answer = answer
    ended = await send(web, {"file": "a"})
    assert ended.error is not None
    assert ended.error.code == "file_changed"


async def test_a_request_that_is_given_up_leaves_no_file_open(web: Web, large: Path):
    seen: list[bool] = []
    web.arriving = lambda: seen.append(is_open(large)) or web.released.wait()
    ended = await send(web, {"file": "large.bin"}, timeout=0.3)
    assert ended.error is not None
    assert ended.error.code == "http_timeout"
    assert (seen, is_open(large)) == ([True], False)

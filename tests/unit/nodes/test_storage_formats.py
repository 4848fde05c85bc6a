"""The `storage` node of version 2: files of JSON, text, CSV and bytes, and those that are something else."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.net.files import current_root
from pyflow.nodes import default_registry
from pyflow.nodes.storage.formats import FileContentError
from pyflow.nodes.storage.node import StorageNode
from pyflow.validation.checker import check_workflow
from tests.support.factories import stage
from tests.unit.nodes.web import node, run


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Iterator[Path]:
    token = current_root.set(tmp_path)
    yield tmp_path
    current_root.reset(token)


async def use(path: str, **config: Any) -> Any:
    ended = await node("storage", {"path": path, **config})
    assert ended.error is None, ended.error.message
    return ended.output


async def refusal(path: str, **config: Any) -> tuple[str, str]:
    ended = await node("storage", {"path": path, **config})
    assert ended.error is not None, ended.output
    return ended.error.code, ended.error.message


async def test_a_file_that_is_not_json_is_named_and_not_read_again(root: Path):
    (root / "f20.txt").write_text("a\nb\n")
    definition = {"id": "n", "type": "storage", "config": {"path": "f20.txt"}, "retry": {"max_attempts": 3}}
    ended = (await run(definition)).nodes["n"]
    assert ended.error is not None
    assert (ended.error.code, ended.attempts) == ("file_content", 1)
    assert ended.error.message.startswith("the file 'f20.txt' is not JSON, line 1, column 1: ")


async def test_text_is_read_and_written(root: Path):
    (root / "a.txt").write_bytes(b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe\r\n")
    assert await use("a.txt", format="text") == "grüße\r\n"
    await use("b.txt", format="text", action="write", data="ä")
    assert await use("b.txt", format="text", action="append", data="b\n") == "äb\n"
    assert (root / "b.txt").read_bytes() == "äb\n".encode()
    (root / "c.txt").write_bytes(b"ab\xff")
    assert await refusal("c.txt", format="text") == (
        "file_content", "the file 'c.txt' is not text in UTF-8: byte 2",
    )  # fmt: skip


TABLE = '\ufeffid;name;price\r\n1;"Müller; ""GmbH""";1,50\r\n\r\n2;"line\nbreak";2\r\n'


async def test_csv_is_read_by_its_header_row(root: Path):
    (root / "t.csv").write_bytes(TABLE.encode())
    assert await use("t.csv", format="csv", separator=";") == [
        {"id": "1", "name": 'Müller; "GmbH"', "price": "1,50"},
        {"id": "2", "name": "line\nbreak", "price": "2"},
    ]
    assert (await use("t.csv", format="csv", separator=";", header=False))[0] == ["id", "name", "price"]


async def test_csv_is_written_and_read_again(root: Path):
    rows = [{"a": "x,y", "b": '"'}, {"b": "", "a": "\n"}]
    await use("t.csv", format="csv", action="write", data=rows)
    assert (root / "t.csv").read_bytes() == b'a,b\r\n"x,y",""""\r\n"\n",\r\n'
    grown = await use("t.csv", format="csv", action="append", data=[{"a": "1", "b": "2"}])
    assert grown == [*rows, {"a": "1", "b": "2"}]
    await use("l.csv", format="csv", action="write", header=False, data=[["a", 1, True]])
    assert await use("l.csv", format="csv", header=False) == [["a", "1", "true"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n1,2,3\n", "is not CSV, line 3: 3 fields, and 2 in the header row"),
        (b'a,b\n1,"2\n', "is not CSV, line 2: "),
        (b"a,a\n1,2\n", "has a name twice in its header row"),
    ],
)
async def test_a_file_that_is_not_csv_is_named(root: Path, content: bytes, said: str):
    (root / "t.csv").write_bytes(content)
    code, message = await refusal("t.csv", format="csv")
    assert (code, message.startswith(f"the file 't.csv' {said}")) == ("file_content", True)


async def test_bytes_are_base64(root: Path):
    (root / "b").write_bytes(b"\x00\xff")
    assert await use("b", format="bytes") == "AP8="
    await use("c", format="bytes", action="write", data="AP8=")
    added = await use("c", format="bytes", action="append", data=base64.b64encode(b"a").decode())
    assert base64.b64decode(added) == (root / "c").read_bytes() == b"\x00\xffa"


@pytest.mark.parametrize(("form", "empty"), [("json", []), ("text", ""), ("csv", []), ("bytes", "")])
async def test_a_file_that_does_not_exist_reads_as_empty(form: str, empty: Any):
    assert await use("none", format=form) == empty


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("text", 1),
        ("text", None),
        ("csv", "a"),
        ("csv", [{"a": 1}, {"b": 1}]),
        ("csv", [1]),
        ("csv", [{}]),
        ("csv", [{"a": 1}, {}]),
        ("csv", [[]]),
        ("bytes", "é"),
        ("bytes", 1),
    ],
)
@pytest.mark.parametrize("action", ["write", "append"])
async def test_what_cannot_be_written_leaves_the_file(root: Path, form: str, data: Any, action: str):
    (root / "f").write_bytes(b"")
    code, message = await refusal("f", format=form, action=action, data=data)
    assert (code, message.startswith("`data` for the file 'f' ")) == ("file_content", True)
    assert (root / "f").read_bytes() == b""


async def test_no_file_is_written_that_is_not_json(root: Path):
    context = ExecutionContext("w", "r")
    context.scope = {}
    for data in ({"a": [float("inf")]}, {"a": [float("nan")]}):
        with pytest.raises(FileContentError, match=r"which JSON does not have, at a\[0\]"):
            await StorageNode().execute({"path": "f.json", "action": "write", "data": data}, context)
    assert not (root / "f.json").exists()
    assert await use("g.json", action="append", data={"ü": 1}) == [{"ü": 1}]
    assert json.loads((root / "g.json").read_text()) == [{"ü": 1}]


@pytest.mark.parametrize("separator", ["", ";;", '"', "\n"])
def test_a_separator_that_is_none_is_refused_when_the_file_is_checked(separator: str):
    config = {"path": "a.csv", "format": "csv", "separator": separator}
    problems = check_workflow(stage.workflow(stage.node("a", "storage", config=config)), default_registry)
    assert [problem.pointer for problem in problems] == ["/nodes/0/config/separator"]


async def test_a_field_of_csv_may_be_as_long_as_its_file():
    rows = [{"a": "x" * 300_000, "b": ""}]
    await use("f", format="csv", action="write", data=rows)
    assert await use("f", format="csv") == rows


async def test_rows_of_csv_without_fields_are_refused_and_empty_fields_are_kept():
    code, message = await refusal("f", format="csv", header=False, action="write", data=[["a"], []])
    assert (code, "without fields" in message, "[1]" in message) == ("file_content", True, True)
    await use("f", format="csv", header=False, action="write", data=[[""], ["a"], [None]])
    assert await use("f", format="csv", header=False) == [[""], ["a"], [""]]

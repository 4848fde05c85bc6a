"""Wherever a value can be in an error, no piece of a secret is: each node type with a secret in each of its places."""

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyflow.core.ports import MappingSecrets, MemorySink
from pyflow.core.redaction import PIECE
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.run_log import LogLine
from pyflow.nodes import default_registry

#: Lengths of the secret, and how many cases there are to one that is tried: long ones take their time to learn.
LENGTHS = {8: 1, 40: 1, 4000: 20}
#: Enough of each type's config for the rest of it to be looked at; nothing here can be reached over the network.
BASES: dict[str, dict[str, Any]] = {
    "alert": {"webhook_url": "http://127.0.0.1:1/", "message": "hi"},
    "approval": {"message": "go?", "timeout": "1ms"},
    "condition": {"if": "True"},
    "email": {"to": "a@b.test", "from": "c@d.test", "subject": "s", "text": "t", "smtp": {"host": "127.0.0.1"}},
    "fail": {"message": "no"},
    "http": {"url": "http://127.0.0.1:1/"},
    "llm": {"url": "http://127.0.0.1:1/", "model": "m", "prompt": "p", "api_key": "k"},
    "log": {"message": "hi"},
    "set": {"x": "1"},
    "signal": {"name": "go", "timeout": "1ms"},
    "sql": {"url": "sqlite:///x.db", "query": "select 1"},
    "storage": {"action": "read", "path": "a.json"},
    "template": {"template": "x"},
    "transform": {"input": {}, "expression": "$"},
    "wait": {"duration": "1ms"},
    "workflow": {"workflow": "none"},
}
USES = "{{ secrets.S }}"
#: Where a field takes more than text, a secret stands in it in these ways.
WAYS: dict[str, Any] = {
    "whole": USES,
    "within": f"../a {USES} b",
    "in a mapping": {"x": USES, "type": USES},
    "in a list": [USES],
    "as a URL": f"http://{USES}:99999/",
    "as a path": f"$.a[{USES}",
}
EXPRESSIONS = [
    "fromjson(secrets.S)",
    "date(secrets.S)",
    "datetime(secrets.S)",
    "datetime('2026-11-30', secrets.S)",
    "duration(secrets.S)",
    "today(secrets.S)",
    "now.astimezone(secrets.S)",
    "now < secrets.S",
    "split(secrets.S, 1)",
    "join(secrets.S, ',')",
    "product(secrets.S)",
    "group_by([{'a': 1}], secrets.S)",
    "group_by([{secrets.S: 1}], 'nope')",
    "group_by([{'a': [secrets.S]}], 'a')",
    "sort_by([{'a': secrets.S}, {'a': 1}], 'a')",
    "merge(secrets.S)",
    "{**secrets.S}",
    "int(secrets.S)",
    "float(secrets.S)",
    "secrets.S + 1",
    "{}[secrets.S]",
    "{'a': 1}[secrets.S]",
    "[1][secrets.S]",
    "secrets.S.nope",
    "secrets[secrets.S]",
    "secrets.S < 1",
    "secrets.S.index('#')",
    "secrets.S.encode('nope')",
    "nodes[secrets.S]",
]
TEMPLATES = [
    *(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS),
    "{{ secrets.S | int(none) + none }}",
    "{{ secrets.S | round }}",
    "{{ secrets.S | attr(secrets.S) }}",
    "{{ {}[secrets.S].x }}",
    "{{ (secrets.S | list).x.y }}",
    "{{ secrets.S | map(secrets.S) | list }}",
    "{{ [1] | map(attribute=secrets.S) | sum }}",
]


def secret_of(length: int) -> str:
    """Letters and digits of which no piece stands anywhere else."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


def cases() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for node_type in default_registry:
        model = getattr(default_registry.get(node_type), "Config", None)
        fields = [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
        for field in fields or BASES[node_type]:
            for way, value in WAYS.items():
                yield (
                    f"{node_type}.{field} {way}",
                    {"type": node_type, "config": {**BASES[node_type], field: value}},
                    {},
                )
    for text in TEMPLATES:
        yield f"template {text}", {"type": "log", "config": {"message": text}}, {}
        yield f"outputs {text}", {"type": "log", "config": {"message": "x"}}, {"outputs": {"x": text}}
    for text in EXPRESSIONS:
        yield f"when {text}", {"type": "log", "config": {"message": "x"}, "when": text}, {}
        yield f"for_each {text}", {"type": "log", "config": {"message": "x"}, "for_each": text}, {}
        yield f"until {text}", {"type": "condition", "config": {"if": text}}, {}
        yield f"set {text}", {"type": "set", "config": {"x": text}}, {}


CASES = list(cases())


class Sink(MemorySink):
    """Keeps what nodes log, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[LogLine] = []

    def log(self, line: LogLine) -> None:
        self.lines.append(line)


def test_every_type_has_a_base():
    assert set(BASES) >= set(default_registry)


@pytest.mark.parametrize("length", LENGTHS)
async def test_no_piece_of_a_secret_is_in_anything_that_is_said_of_a_run(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    secret = secret_of(length)
    pieces = {secret[i : i + PIECE] for i in range(length - PIECE + 1)}
    found: list[tuple[str, str]] = []
    failed = 0
    monkeypatch.setenv("PYFLOW_STORAGE_ROOT", str(tmp_path))
    with caplog.at_level("DEBUG", "pyflow"):
        for name, node, more in CASES[:: LENGTHS[length]]:
            caplog.clear()
            sink = Sink()
            engine = WorkflowEngine(sink=sink, secrets=MappingSecrets({"S": secret}))
            document = {"version": 2, "name": "t", "nodes": [{"id": "a", **node}], **more}
            try:
                result = await engine.execute(WorkflowDef.model_validate(document))
            except ValueError:
                continue  # it is refused before it runs, and nobody has seen the secret
            failed += result.error is not None
            told = json.dumps([result.as_dict(), [event.data for event in sink.events]], default=str)
            for text in (told, caplog.text, *(line.message for line in sink.lines)):
                found += [(name, text[i : i + PIECE]) for i in range(len(text)) if text[i : i + PIECE] in pieces]
    assert found == []
    assert failed > len(CASES) / LENGTHS[length] / 4, "most of these are mistakes"

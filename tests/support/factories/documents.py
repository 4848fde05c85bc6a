"""A document with every key of the format, its places, and values that belong into none of them."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

Path = tuple[str | int, ...]

#: Valid. Each key that the format has, and each built-in node type.
EVERYTHING: dict[str, Any] = {
    "version": 2,
    "name": "shapes",
    "description": "Everything once",
    "labels": {"team": "x"},
    "triggers": [{"type": "schedule", "id": "daily", "config": {"cron": "0 6 * * *"}}],
    "inputs": {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": ["string", "null"], "default": "x", "enum": ["x", None]}},
    },
    "outputs": {"text": "{{ text }}"},
    "vars": {"limit": 1},
    "settings": {
        "timeout": "1m",
        "queue_timeout": 5,
        "priority": 5,
        "concurrency": {"key": "{{ input.a }}", "limit": 1, "on_limit": "queue"},
        "queue": "q",
        "distribute": False,
        "durability": "node",
    },
    "nodes": [
        {"id": "text", "type": "template", "config": {"template": "{{ input.a }}"}, "description": "A text"},
        {
            "id": "web",
            "type": "http",
            "depends_on": ["text"],
            "when": "text == 'x'",
            "on_error": "continue",
            "run_if": "all_done",
            "config": {
                "url": "https://example.com/{{ item }}",
                "method": "POST",
                "headers": {"Accept": "text/plain"},
                "json": {"a": [1]},
                "auth": {"type": "bearer", "token": "{{ secrets.TOKEN }}"},
            },
            "retry": {
                "max_attempts": 3,
                "initial_interval": "1s",
                "backoff_coefficient": 2,
                "max_interval": 3,
                "jitter": "full",
                "retry_on": ["timeout"],
                "non_retryable": ["network"],
            },
            "timeout": 5,
            "total_timeout": 9,
            "for_each": [1, 2],
            "item_key": "{{ item }}",
            "max_parallel": 2,
            "tolerate_failures": "5%",
            "compensate": {
                "type": "log",
                "config": {"message": "{{ output }}"},
                "retry": {"max_attempts": 2},
                "timeout": 1,
                "total_timeout": 2,
            },
            "cache": {"key": "{{ text }}-{{ item }}", "ttl": "1h"},
            "concurrency": {"key": "web", "limit": 2},
            "max_output_size": 100,
            "queue": "z",
            "on_lost": "fail",
        },
        {"id": "check", "type": "condition", "config": {"if": "1 == 1"}},
        {"id": "child", "type": "workflow", "config": {"workflow": "other", "input": {"a": 1}}},
        {"id": "part", "type": "transform", "config": {"input": {"a": 1}, "expression": "$.a"}},
        {"id": "rows", "type": "sql", "config": {"url": "sqlite:///x", "query": "select :a", "params": {"a": 1}}},
        {
            "id": "mail",
            "type": "email",
            "config": {
                "smtp": {"host": "mail.example.com"},
                "from": "a@example.com",
                "to": ["b@example.com"],
                "subject": "s",
                "text": "t",
            },
        },
        {"id": "ask", "type": "approval", "config": {"assignees": ["ada"], "timeout": "1h"}},
        {"id": "word", "type": "signal", "config": {"name": "go"}},
        {"id": "nap", "type": "wait", "config": {"duration": "1s"}},
        {"id": "keep", "type": "storage", "config": {"action": "write", "path": "a.json", "data": {"a": 1}}},
        {"id": "alarm", "type": "alert", "config": {"webhook_url": "https://example.com", "message": "m"}},
        {"id": "end", "type": "fail", "config": {"message": "m"}},
    ],
    "on_failure": [{"id": "sorry", "type": "log", "config": {"message": "m", "level": "info"}}],
    "finally": [{"id": "bye", "type": "log", "config": {"message": "m"}}],
}
#: The same for version 1.
EVERYTHING_V1: dict[str, Any] = {
    "name": "shapes",
    "description": "Everything once",
    "trigger": {"type": "schedule", "config": {"cron": "0 6 * * *"}},
    "nodes": [
        {"id": "first", "type": "log", "config": {"message": "m"}},
        {
            "id": "second",
            "type": "log",
            "config": {"message": "{{ first }}"},
            "depends_on": ["first"],
            "when": "1 == 1",
            "on_error": "retry",
            "retry": {"max_retries": 1, "delay": 2},
        },
    ],
}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


#: Of each type, and awkward ones of it.
WRONG: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    1e300,
    "",
    "x",
    "{{",
    "{{ nobody.knows }}",
    "{% if",
    "long" * 800,
    "\u2028é",
    [],
    [None],
    [["x"]],
    [{"a": 1}],
    {},
    {"a": None},
    {"a": {"b": [1]}},
    {"": 1},
    {"k" * 200: "y"},
    {"type": [["string"]]},
    {"$ref": "#/nope"},
    _nested(20),
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something stands in a document; the document itself first."""
    yield path
    if isinstance(value, dict | list):
        for step in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[step], (*path, step))


def put(document: Any, path: Path, value: Any) -> Any:
    """The document with ``value`` at a place."""
    if not path:
        return value
    document = deepcopy(document)
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


def spoiled(some: int | None = None) -> Iterator[tuple[Path, Any, Any]]:
    """Documents with one value that does not belong there: ``(place, value, document)``.

    All values at every place, or only ``some`` at each: other ones at the next place, and the same ones every time.
    """
    step = 0
    for document in (EVERYTHING, EVERYTHING_V1):
        for path in places(document):
            for _ in range(len(WRONG) if some is None else some):
                yield path, WRONG[step % len(WRONG)], put(document, path, WRONG[step % len(WRONG)])
                step += 1

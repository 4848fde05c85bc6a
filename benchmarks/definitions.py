"""Measures work on definitions: rendering a template, evaluating a `when`, reading and checking a large file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measure import Row, interleaved, rows
from pyflow.expressions.evaluation import compile_expression
from pyflow.expressions.template import compile_template
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow

LOOPS = 2_000
SCOPE: dict[str, Any] = {"a": {"b": 5}, "order": {"total": 12}}


def _per_call(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        for _ in range(LOOPS):
            work()
        return (time.perf_counter() - started) / LOOPS

    return measure


def _large(nodes: int) -> str:
    step = "  - id: n{0}\n    type: transform\n    depends_on: [{1}]\n    config: {{input: {2}, expression: $.x}}\n"
    body = "".join(
        step.format(i, f"n{i - 1}" if i else "", f'"{{{{ n{i - 1} }}}}"' if i else "{x: 1}") for i in range(nodes)
    )
    return f"version: 2\nname: large\nnodes:\n{body}"


def measure(runs: int) -> Iterator[Row]:
    """Microseconds a rendering; milliseconds a file."""
    plain = compile_template("{{ a.b }}", typed=True)
    mixed = compile_template("Hello {{ a.b }}!", typed=True)
    simple = compile_expression("order.total > 10")
    calls = {
        "template {{ a.b }}": _per_call(lambda: plain.render(SCOPE)),
        "template Hello {{ a.b }}!": _per_call(lambda: mixed.render(SCOPE)),
        "when order.total > 10": _per_call(lambda: simple.evaluate(SCOPE)),
    }
    yield from rows(interleaved(calls, runs), "µs", scale=1e6)

    text = _large(1_000)
    workflow = parse_workflow(text)

    def parse() -> float:
        started = time.perf_counter()
        parse_workflow(text)
        return time.perf_counter() - started

    def check() -> float:
        started = time.perf_counter()
        problems = check_workflow(workflow, default_registry)
        assert not problems, problems
        return time.perf_counter() - started

    files = {"parse a YAML of 1,000 nodes": parse, "check it": check}
    yield from rows(interleaved(files, runs), "ms", scale=1e3)

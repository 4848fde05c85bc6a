"""Evaluates hostile input where it can do no harm: each case in a process of its own with little memory and time.

Reads a JSON list of ``{id, kind, source, context?}`` from standard input and writes ``{id: outcome}``. A kind names a
function below; an outcome is ``{"is": "value" | "limit" | "reject" | "error" | "killed", "detail": …}``.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyflow.core.errors import DefinitionError, InputError, PyFlowError
from pyflow.documents.json_schema import mismatches
from pyflow.documents.reading import read_json, read_yaml
from pyflow.expressions.evaluation import ExpressionLimitError, safe_eval
from pyflow.expressions.template import TemplateLimitError, compile_template
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow
from pyflow.validation.loader import parse_workflow

MEMORY = 256 * 1024 * 1024
CPU_SECONDS = 2
LIMITS = (ExpressionLimitError, TemplateLimitError)


def _checked(source: str, _: dict[str, Any]) -> int:
    workflow = parse_workflow(source)
    problems = check_workflow(workflow, default_registry)
    if problems:
        raise DefinitionError(problems)
    return len(lint_workflow(workflow, default_registry))


def _fits(source: str, context: dict[str, Any]) -> bool:
    problems = mismatches(json.loads(source), context["value"])
    if problems:
        raise InputError(problems)
    return True


KINDS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "expression": safe_eval,
    "expression 2": lambda source, context: safe_eval(source, context, version=2),
    # Of a text without any tag, too, which in a config is no template.
    "template": lambda source, context: compile_template(source, typed=False).render(context),
    "typed template": lambda source, context: compile_template(source, typed=True).render(context),
    "yaml": lambda source, _: read_yaml(source).data,
    "json": lambda source, _: read_json(source).data,
    "workflow": lambda source, _: parse_workflow(source).name,
    "checked": _checked,
    "schema": _fits,
}


def run(cases: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the outcome of each case, by id."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.expressions.boxed"],
        input=json.dumps(list(cases)),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    outcomes: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return outcomes


def _outcome(case: dict[str, Any]) -> dict[str, Any]:
    try:
        value = KINDS[case["kind"]](case["source"], case.get("context", {}))
    except LIMITS as error:
        return {"is": "limit", "detail": f"{type(error).__name__}: {error}"}
    except PyFlowError as error:
        return {"is": "reject", "detail": f"{type(error).__name__}: {error}"}
    except BaseException as error:
        return {"is": "error", "detail": f"{type(error).__name__}: {error}"}
    try:
        return {"is": "value", "value": value, "detail": json.dumps(value, allow_nan=False)[:200]}
    except (TypeError, ValueError):
        return {"is": "value", "value": str(value), "detail": "not JSON"}


def _in_a_box(case: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        with os.fdopen(writer, "w") as out:
            json.dump(_outcome(case), out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if status or not text:
        return {"is": "killed", "detail": f"status {status}"}
    outcome: dict[str, Any] = json.loads(text)
    return outcome


def main() -> None:
    """Run the cases of standard input."""
    # What is imported on first use would count against the first case.
    compile_template("{{ a|upper }}", typed=True).render({"a": "b"})
    safe_eval("1 + 1")
    _fits("{}", {"value": 1})
    _checked("version: 2\nname: x\nnodes: [{id: a, type: log, config: {message: x}}]", {})
    json.dump({case["id"]: _in_a_box(case) for case in json.load(sys.stdin)}, sys.stdout)


if __name__ == "__main__":
    main()

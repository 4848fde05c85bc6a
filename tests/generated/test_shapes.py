"""Documents of any shape: whatever stands anywhere in one, it is judged, with a place, and nothing breaks.

CI puts some wrong values at each place, the same ones every time; ``make fuzz`` puts all of them.
"""

import json
import os
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyflow.cli import app
from pyflow.core.errors import DefinitionError
from pyflow.documents.reading import read_json
from pyflow.execution.plan import compile_plan
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow
from pyflow.validation.loader import build_workflow, parse_workflow
from tests.support.api import Api, read
from tests.support.factories.documents import EVERYTHING, EVERYTHING_V1, spoiled
from tests.support.factories.rows import make_api_key, make_tenant

ALL = bool(os.environ.get("PYFLOW_TEST_FUZZ_EXAMPLES"))
GOOD = "version: 2\nname: good\nnodes: [{id: a, type: log, config: {message: x}}]\n"
COMMANDS = (
    "validate --lint FILE",
    "diff FILE GOOD",
    "inspect --format json FILE",
    "convert --check FILE",
    "run --dry-run FILE",
    "validate --format json FILE",
    "diff --format json GOOD FILE",
    "inspect FILE",
    "run --mock web=@FILE FILE --stop-at text",
    "list FOLDER",
)


def test_what_is_spoiled_was_right():
    for document in (EVERYTHING, EVERYTHING_V1):
        assert check_workflow(parse_workflow(json.dumps(document), "json"), default_registry) == []


def test_the_checker_says_what_is_wrong_and_where():
    for place, value, document in spoiled(None if ALL else 3):
        try:
            workflow = build_workflow(read_json(json.dumps(document)))
            problems = check_workflow(workflow, default_registry)
            if not problems:
                compile_plan(workflow, default_registry)
                lint_workflow(workflow, default_registry)
        except DefinitionError as error:
            problems = list(error.problems)
        for problem in problems:
            assert problem.pointer or not place, (place, value, problem)


def test_no_command_ends_with_a_traceback(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    good, file = tmp_path / "good.yaml", tmp_path / "folder" / "file.yaml"
    good.write_text(GOOD)
    (tmp_path / "folder" / "good.yaml").write_text(GOOD)
    for number, (place, value, document) in enumerate(islice(spoiled(10 if ALL else 1), 0, None, 1 if ALL else 2)):
        file.write_text(json.dumps(document))
        command = COMMANDS[number % len(COMMANDS)]
        names = {"FILE": str(file), "GOOD": str(good), "FOLDER": str(file.parent)}
        done = CliRunner().invoke(app, [names.get(word, word).replace("@FILE", f"@{file}") for word in command.split()])
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, place, value, done.exc_info)
        assert done.exit_code in (0, 1, 2, 3), (command, place, value)
        if command.startswith("list"):
            assert "  good [manual] (1 nodes)\n" in done.stdout


@pytest.mark.api
def test_no_document_is_an_error_of_the_server(db):
    api = Api(make_api_key(make_tenant())[1])
    for number, (place, value, document) in enumerate(spoiled(10 if ALL else 1)):
        if number % 3 == 0:
            answer = api.post("/api/v1/workflows/validate", document)
        elif number % 3 == 1:
            answer = api.put("/api/v1/workflows/shapes", document)
        else:
            answer = api.post("/api/v1/workflows/dry-run", {"document": json.dumps(document), "format": "json"})
        assert answer.status_code < 500, (number % 3, place, value, answer.content)
        for problem in read(answer).get("problems" if number % 3 == 0 else "errors", ()):
            assert problem["pointer"] or not place, (number % 3, place, value, problem)

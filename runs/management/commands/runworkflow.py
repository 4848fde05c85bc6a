"""``manage.py runworkflow FILE``: store a workflow, run it durably in this process, follow it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pyflow.core.errors import PyFlowError
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.documents.reading import read_json
from pyflow.isolation import node_loop
from pyflow.validation.loader import parse_workflow, read_source
from runs.models import NodeRun, Run
from runs.services.start import start_version
from runs.storage.reading import output_of, outputs_of
from runs.worker.executor import RunExecutor
from tenants.access import Actor
from tenants.services import DEFAULT_SLUG, find_or_create
from workflows.services import put_workflow


class Command(BaseCommand):
    """The platform's ``pyflow run``: the run is in the database, and goes on after a crash."""

    help = "Store a workflow file for a tenant, run it durably and print the result. Exit status 1 if it failed."

    def add_arguments(self, parser: CommandParser) -> None:
        """``FILE [--input JSON|@FILE] [--tenant SLUG [--create]] [--format text|json]``."""
        parser.add_argument("file", type=Path, help="the workflow, YAML or JSON")
        parser.add_argument("--input", default="{}", help="the input as JSON, or @FILE")
        parser.add_argument("--tenant", help=f"slug of the tenant; default: `{DEFAULT_SLUG}`, created if needed")
        parser.add_argument("--create", action="store_true", help="create the tenant if it does not exist")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it; ``CommandError`` for whatever the caller can mend."""
        try:
            run = self._accept(options["file"], options["input"], options)
        except (PyFlowError, OSError) as error:
            raise CommandError(str(error)) from None
        if options["format"] == "text":
            self.stdout.write(f"Running workflow: {run.workflow.name}")
        run = self._execute(run.pk)
        nodes = list(NodeRun.objects.for_tenant(run.tenant_id).filter(run=run))
        if options["format"] == "json":
            self.stdout.write(json.dumps(_as_json(run, nodes), indent=2, ensure_ascii=False))
        else:
            self._print(run, nodes)
        if run.state != RunState.SUCCEEDED:
            raise SystemExit(1)

    def _accept(self, file: Path, text: str, options: dict[str, Any]) -> Run:
        source, source_format = read_source(file)
        data = read_json(Path(text[1:]).read_text() if text.startswith("@") else text).data
        tenant = find_or_create(slug=options["tenant"], create=options["create"])
        name = parse_workflow(source, source_format).name
        by = Actor.system(tenant.pk, "manage.py runworkflow")
        saved = put_workflow(by=by, name=name, source=source, source_format=source_format)
        return start_version(version=saved.version, input=data, by=by)

    @staticmethod
    def _execute(run_id: UUID) -> Run:
        """The run once it is finished, here or by another executor that was quicker to claim it."""
        while True:
            node_loop.run(RunExecutor().drain(only=run_id))
            run = Run.objects.across_tenants().select_related("workflow", "version").get(pk=run_id)
            if run.state in TERMINAL_RUN_STATES:
                return run
            time.sleep(0.1)

    def _print(self, run: Run, nodes: list[NodeRun]) -> None:
        self.stdout.write(f"{run.state.capitalize()}. Run ID: {run.pk}")
        for node in nodes:
            outcome = {NodeState.SUCCEEDED: "OK", NodeState.SKIPPED: "SKIPPED"}.get(NodeState(node.state))
            self.stdout.write(
                f"  {node.node_id}: {outcome or 'ERROR — ' + (node.error or {}).get('message', node.state)}"
            )
        outputs = outputs_of(run)
        if outputs is not None:
            self.stdout.write(json.dumps(outputs, indent=2, ensure_ascii=False))


def _as_json(run: Run, nodes: list[NodeRun]) -> dict[str, Any]:
    return {
        "run_id": str(run.pk),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "state": run.state,
        "outputs": outputs_of(run),
        "error": run.error,
        "nodes": [
            {"id": node.node_id, "state": node.state, "output": output_of(node), "error": node.error} for node in nodes
        ],
    }

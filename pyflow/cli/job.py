"""The request of `pyflow run`, read from its options and checked as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyflow.cli.console import fail
from pyflow.cli.loading import STANDARD_INPUT, RefusedError, check, read_workflow
from pyflow.cli.selection import Selection, select
from pyflow.cli.values import read_input, read_mocks, read_signals
from pyflow.cli.workflows import DirectoryWorkflows
from pyflow.core.errors import DefinitionError
from pyflow.core.node import NodeRegistry
from pyflow.core.suspension import Signal
from pyflow.documents.models import WorkflowDef
from pyflow.execution.plan import compile_plan
from pyflow.nodes import default_registry


@dataclass(frozen=True, slots=True)
class Job:
    """A workflow with all that its run begins with. ``directory``: where the workflows are that its nodes name."""

    workflow: WorkflowDef
    registry: NodeRegistry
    mocks: Mapping[str, Any]
    input: dict[str, Any] | None
    signals: Sequence[Signal]
    selection: Selection
    directory: Path

    def input_of_version_2(self) -> dict[str, Any] | None:
        """The run's input; version 1 has none."""
        return None if self.workflow.version == 1 else self.input or {}

    def initial_context(self) -> dict[str, Any] | None:
        """Return the initial context of a version 1 workflow."""
        return None if self.input is None else {"trigger": self.input}

    def without_outputs(self) -> Job:
        """The job of a run that leaves out nodes which the workflow's outputs may need."""
        return replace(self, workflow=self.workflow.model_copy(update={"outputs": {}}))


def read_job(
    file: Path,
    *,
    input: Sequence[str],
    mocks: Sequence[str],
    signals: Sequence[str],
    stop_at: str | None,
    start: str | None,
    results: Path | None,
) -> Job:
    """The job that the options describe. Says what is wrong with them and exits if they describe none."""
    if file == STANDARD_INPUT and "-" in input:
        fail("standard input has the workflow: give the input as --input @FILE or --input KEY=VALUE")
    try:
        workflow = read_workflow(file)
        outputs = read_mocks(mocks)
        own, of_children = _split(workflow, outputs)
        registry = _registry(workflow, own, default_registry)
        check(workflow, file, registry)
        for child, its_own in of_children.items():
            registry = _registry(_find(child, file.parent), its_own, registry)
    except RefusedError as refused:
        refused.report()
    return Job(
        workflow,
        registry,
        outputs,
        read_input(input, workflow.inputs),
        read_signals(signals),
        select(compile_plan(workflow, registry), stop_at, start, results),
        file.parent,
    )


def _split(workflow: WorkflowDef, mocks: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, dict[str, Any]]]:
    """The mocks of the workflow's own nodes, and those of its child runs' by the names of their workflows."""
    if not mocks:
        return {}, {}
    from pyflow.testing.mocks import split_mocks  # noqa: PLC0415 - most runs have no mocks

    return split_mocks(workflow, mocks)


def _find(child: str, directory: Path) -> WorkflowDef:
    try:
        return DirectoryWorkflows(directory).get(child)
    except KeyError:
        fail(f"--mock {child}/…: no file in {directory} has a workflow named {child!r}")
    except DefinitionError as error:
        fail(f"--mock {child}/…: {error}")


def _registry(workflow: WorkflowDef, mocks: Mapping[str, Any], registry: NodeRegistry) -> NodeRegistry:
    """``registry``, with the types that only mocked nodes of ``workflow`` have."""
    if not mocks:
        return registry
    from pyflow.testing.mocks import check_mocks, registry_for  # noqa: PLC0415 - most runs have no mocks

    try:
        check_mocks(workflow, mocks)
    except ValueError as error:
        fail(f"--mock: {error}")
    return registry_for(workflow, registry, mocks)

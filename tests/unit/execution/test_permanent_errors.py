"""What cannot change is not retried: of each error it is decided whether another attempt may end differently."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import pyflow
import pyflow_sdk
from pyflow.core.error_kinds import CLASSES, CODES
from pyflow.documents.models import RetryDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.retry import RetryPolicy
from pyflow.isolation.errors import describe_error, rebuild_error
from pyflow_sdk.errors import PyFlowError
from pyflow_sdk.node import BaseNodeV2, NodeContext
from secrets_vault import errors as vault
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow
from tests.unit.isolation.isolated_nodes import Anything

#: Another attempt may end differently: the world may have changed, or the node's code decides anew.
MAY_PASS = {
    "PyFlowError", "NodeError", "RetryableError", "RecordedError", "InvalidTransitionError",
    # the world
    "UnreachableError", "LlmUnavailableError", "MailServerError", "SqlError", "HttpTimeoutError", "HttpStatusError",
    "TokenUnavailableError", "FileChangedError", "NodeTimeoutError", "HeartbeatTimeoutError", "NodeProcessDiedError",
    "ComputationBusyError", "ConcurrencyLimitError", "SkippedByLimitError", "SecretsUnavailableError",
    # what decides anew
    "LlmAnswerError", "OutputInvalidError", "NodeExitError", "NodeSelfCancelledError", "ChildRunFailedError",
    "FanOutError",
    # how long it takes
    "TemplateLimitError", "ExpressionLimitError", "ComputationLimitError",
}  # fmt: skip
CANNOT_CHANGE = {
    # what is written in the workflow
    "DocumentError", "DocumentTooLargeError", "DefinitionError", "InputError", "WorkflowNotFoundError",
    "UnknownNodeTypeError", "UnusableSchemaError", "ConfigInvalidError", "JsonPathError", "CronError",
    "ConversionError", "NoMatchError",
    "TemplateError", "TemplateUndefinedError", "TemplateSecurityError", "TemplateSyntaxError",
    "UnsafeExpressionError", "ExpressionSyntaxError", "UnknownFunctionError", "BadItemsError", "ChildRunRefusedError",
    "SqlRefusedError", "InvalidRequestError", "MessageRefusedError", "NotIsolatableError", "IsolatedEnvironmentError",
    # deterministic data
    "EvaluationError", "UnknownNameError", "EvaluationTypeError", "EvaluationValueError", "EvaluationKeyError",
    "EvaluationIndexError", "EvaluationAttributeError", "EvaluationDivisionError", "NotPlainError", "FileContentError",
    # what was decided
    "NonRetryableError", "ApprovalRejectedError", "DecisionError", "LlmRefusedError", "MailRefusedError",
    "TokenRefusedError", "SSRFError", "TooManyRedirectsError", "PathRefusedError", "WorkerLostError",
    # rounds that are over
    "ItemConditionError", "RetryConditionError", "UntilConditionError", "UntilLimitError", "UntilTimeoutError",
    # what is set up
    "SecretNotFoundError", "VaultNotConfiguredError", "MasterKeyUnknownError", "SecretUnreadableError",
    "StoredFileMissingError", "UnexpectedAnswerError", "EventLoopMisuseError",
    # limits of size
    "OutputTooLargeError", "IsolatedOutputError", "ResponseTooLargeError", "StorageQuotaError", "MemoryLimitError",
    "CpuLimitError",
}  # fmt: skip
#: Of the vault, what a node can meet while it asks for a secret.
MET = {"VaultNotConfiguredError", "MasterKeyUnknownError", "SecretUnreadableError", "SecretsUnavailableError"}


def error_classes() -> Iterator[type[PyFlowError]]:
    for package in (pyflow, pyflow_sdk):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "isolation_child", "computations_child")):
                importlib.import_module(module.name)
    left: list[type[PyFlowError]] = [PyFlowError]
    while left:
        cls = left.pop()
        left += cls.__subclasses__()
        if cls.__module__.split(".")[0] in {"pyflow", "pyflow_sdk"} and hasattr(
            sys.modules[cls.__module__], cls.__name__
        ):
            yield cls  # the others are made of what another process tells
    yield from (getattr(vault, name) for name in MET)


def test_of_each_error_it_is_decided_whether_another_attempt_may_end_differently():
    permanent = {cls.__name__: cls.permanent for cls in error_classes()}
    expected = dict.fromkeys(MAY_PASS, False) | dict.fromkeys(CANNOT_CHANGE, True)
    assert permanent == expected


@pytest.mark.parametrize("error", [vault.MasterKeyUnknownError("no key"), vault.SecretsUnavailableError("later")])
def test_an_error_keeps_it_on_its_way_from_another_process(error: PyFlowError):
    policy = RetryPolicy.v2(RetryDef())
    assert policy.retries(error) is not error.permanent
    assert policy.retries(rebuild_error(describe_error(error))) is not error.permanent


class Asks(BaseNodeV2[Anything]):
    """Asks for a secret that is not there."""

    node_type = "asks"
    Config = Anything

    async def run(self, config: Anything, ctx: NodeContext) -> object:
        return ctx.secret("NOT_THERE")


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        (node("a", "asks"), "secret_not_found"),
        (node("a", config={"value": "{{ secrets.NOT_THERE }}"}), "secret_not_found"),
        (node("a", config={"value": "Bearer {{ secrets.NOT_THERE | upper }}"}), "secret_not_found"),
        (node("a", config={"value": "{{ input.nothing }}"}), "template_undefined"),
        (node("a", "told", config={"count": "{{ 'many' }}"}), "config_invalid"),
    ],
)
@pytest.mark.parametrize("each", [False, True], ids=["node", "item"])
async def test_such_an_attempt_is_the_only_one(definition: dict[str, Any], code: str | None, each: bool):
    registry = stage.registry()
    registry.register(Asks)
    engine = WorkflowEngine(registry, clock=stage.Clock())
    more = {"retry": {"max_attempts": 3}} | ({"for_each": [1]} if each else {})
    result = await engine.execute(workflow(definition | more))
    run = result.nodes["a"].items[0] if each else result.nodes["a"]
    assert (run.state, run.attempts) == ("failed", 1)
    assert code is None or run.error.code == code


class Away(Mapping[str, str]):
    """A store of secrets that cannot be reached."""

    def __getitem__(self, name: str) -> str:
        raise vault.SecretsUnavailableError("later")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("value", ["{{ secrets.KEY }}", "Bearer {{ secrets.KEY }}"])
async def test_why_a_template_has_no_secret_keeps_its_code(value: str):
    engine = WorkflowEngine(stage.registry(), clock=stage.Clock(), secrets=Away())
    result = await engine.execute(workflow(node("a", config={"value": value})))
    assert result.nodes["a"].error.code == "secrets_unavailable"


async def test_an_error_of_a_template_names_its_place():
    nested = {"rows": [{"name": "{{ input.nothing }}"}]}
    result = await stage.run(workflow(node("a", config=nested)))
    assert result.nodes["a"].error.message.startswith("`config.rows[0].name`: ")


def test_the_words_of_retry_policies_are_those_of_the_errors():
    classes = list(error_classes())
    assert {cls.__name__ for cls in classes} == CLASSES
    assert {cls.code for cls in classes} == CODES

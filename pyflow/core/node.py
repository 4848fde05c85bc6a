"""Node types: v1's base class, the registry of all of them, and how the engine calls either kind."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import UnknownNodeTypeError
from pyflow.core.misfits import check_output, parse
from pyflow_sdk.node import BaseNodeV2, NodeContext

__all__ = ["AnyNodeClass", "BaseNode", "BaseNodeV2", "Invoker", "NodeRegistry", "invoker_for"]

TConfig = TypeVar("TConfig")
TResponse = TypeVar("TResponse")


class BaseNode(ABC, Generic[TConfig, TResponse]):
    """The v1 base class of a node type: set ``node_type`` and define ``execute``.

    Both spellings that v1 had are at home here: plain ``BaseNode`` with a dict config, and
    ``BaseNode[TConfig, TResponse]`` with ``config_model`` / ``response_model``.
    """

    node_type: ClassVar[str]
    config_model: ClassVar[type[BaseModel] | None] = None
    response_model: ClassVar[type[BaseModel] | None] = None

    @abstractmethod
    async def execute(self, config: Any, context: ExecutionContext) -> object:
        """Do the node's work and return its result; what it raises is recorded as the node's error."""

    def validate_config(self, raw: Any) -> Any:
        """``raw`` as ``config_model`` (pydantic's ``ValidationError`` if it does not fit), or as it is without one."""
        return raw if self.config_model is None else self.config_model.model_validate(raw)


AnyNodeClass = type[BaseNode[Any, Any]] | type[BaseNodeV2[Any]]
NodeClassT = TypeVar("NodeClassT", bound=AnyNodeClass)

#: Calls one attempt of a node: rendered config, the run's context and the node's own context in, its result out.
Invoker = Callable[[Any, ExecutionContext, NodeContext | None], Awaitable[object]]


_state_ids = itertools.count()


class NodeRegistry:
    """Node classes by their type name."""

    def __init__(self) -> None:
        self._classes: dict[str, AnyNodeClass] = {}
        #: Types that a plugin should provide which could not be loaded, and why not.
        self.broken: dict[str, str] = {}
        #: Different for every registry, and after every registration: what was compiled for one holds for it only.
        self.state_id = next(_state_ids)

    def register(self, cls: NodeClassT) -> NodeClassT:
        """Add a class and return it (so it also works as a decorator); ``ValueError`` if its type is taken."""
        node_type = getattr(cls, "node_type", None)
        if not isinstance(node_type, str) or not node_type:
            raise ValueError(f"{cls.__name__} needs a class attribute node_type: str")
        if issubclass(cls, BaseNodeV2) and not (hasattr(cls, "run") and hasattr(cls, "Config")):
            raise ValueError(f"{cls.__name__} needs a Config model and a run method")
        if getattr(cls, "Config", None) is BaseModel:
            raise ValueError(f"{cls.__name__}.Config is pydantic's BaseModel itself; it must be a model of its own")
        if node_type in self._classes:
            raise ValueError(f"Node type {node_type!r} is already registered")
        self._classes[node_type] = cls
        self.state_id = next(_state_ids)
        return cls

    def get(self, node_type: str) -> AnyNodeClass:
        """The class of a type; ``KeyError`` ("Unknown node type: …") if there is none."""
        try:
            return self._classes[node_type]
        except KeyError:
            raise UnknownNodeTypeError(self.why_unknown(node_type)) from None

    def why_unknown(self, node_type: str) -> str:
        """Say why there is no such type: nothing provides it, or what does could not be loaded."""
        if node_type in self.broken:
            return f"The plugin that provides the node type {node_type!r} could not be loaded: {self.broken[node_type]}"
        return f"Unknown node type: {node_type}"

    def list_types(self) -> list[str]:
        """The registered type names, sorted."""
        return sorted(self._classes)

    def copy(self) -> NodeRegistry:
        """A registry with the same types that can be added to without changing this one."""
        twin = NodeRegistry()
        twin._classes = dict(self._classes)
        twin.broken = dict(self.broken)
        return twin

    def __contains__(self, node_type: object) -> bool:
        return node_type in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self.list_types())


def invoker_for(cls: AnyNodeClass) -> Invoker:
    """Return a function that calls one attempt of a node of this class. Inspects the class once, beforehand."""
    if issubclass(cls, BaseNodeV2):
        return _invoke_v2(cls)
    return _invoke_v1(cls)


def _invoke_v1(cls: type[BaseNode[Any, Any]]) -> Invoker:
    # Declared `async def`, yet v1 users may have written a plain one.
    is_async: bool = inspect.iscoroutinefunction(inspect.unwrap(cls.execute))
    validates = cls.config_model is not None or cls.validate_config is not BaseNode.validate_config
    wants_dict = _takes_a_dict(cls)

    if getattr(cls, "wants_node_context", False):
        return _invoke_with_context(cls)

    async def plain(config: Any, context: ExecutionContext, _: NodeContext | None) -> object:
        return await cls().execute(config, context)

    async def any_shape(config: Any, context: ExecutionContext, _: NodeContext | None) -> object:
        node = cls()
        if validates:
            parsed = node.validate_config(config)
            config = config if wants_dict else parsed
        if is_async:
            return await node.execute(config, context)
        result: Any = await asyncio.to_thread(node.execute, config, context)
        return await result if inspect.isawaitable(result) else result

    return plain if is_async and not validates else any_shape


def _invoke_with_context(cls: type[BaseNode[Any, Any]]) -> Invoker:
    async def invoke(config: Any, context: ExecutionContext, node_context: NodeContext | None) -> object:
        execute: Callable[..., Awaitable[object]] = cls().execute
        return await execute(config, context, node_context)

    return invoke


def _takes_a_dict(cls: type[BaseNode[Any, Any]]) -> bool:
    """Return whether a class with a config model still declares that ``execute`` takes the plain dict."""
    parameters = list(inspect.signature(cls.execute).parameters.values())
    if len(parameters) < 2:
        return False
    annotation = parameters[1].annotation
    spelled = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return spelled.split("[")[0].rpartition(".")[2].lower() in {"dict", "mapping"}


def _invoke_v2(cls: type[BaseNodeV2[Any]]) -> Invoker:
    config_model, output_model = cls.Config, cls.Output
    is_async = inspect.iscoroutinefunction(cls.run)

    async def invoke(config: Any, _: ExecutionContext, ctx: NodeContext | None) -> object:
        run: Callable[[Any, NodeContext | None], Any] = cls().run  # type: ignore[assignment]
        parsed = parse(config_model, config)
        output: Any = await run(parsed, ctx) if is_async else await asyncio.to_thread(run, parsed, ctx)
        if output_model is not None:
            output = check_output(output_model, output)
        return output.model_dump(mode="json") if isinstance(output, BaseModel) else output

    return invoke

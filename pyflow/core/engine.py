"""Version 1's import path of ``pyflow.execution.engine``."""

from pyflow.execution.engine import (
    Engine,
    Execution,
    Handler,
    Middleware,
    NodeCall,
    RunRequest,
    RunServices,
    WorkflowEngine,
)

__all__ = ["Engine", "Execution", "Handler", "Middleware", "NodeCall", "RunRequest", "RunServices", "WorkflowEngine"]

"""PyFlow: describe work as a graph of nodes, run it anywhere. ``__version__`` is the installed version."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Every program that uses the engine imports this module, and few ask; it takes 20 ms, a tenth of `pyflow run`.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        found = version("pyflow")
    except PackageNotFoundError:  # a source tree that was never installed
        found = "0.0.0"
    globals()[name] = found
    return found

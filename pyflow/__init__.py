"""PyFlow: describe work as a graph of nodes, run it anywhere."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pyflow")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

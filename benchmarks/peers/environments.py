"""Environments of the peers, below ``.peers/``: made once, from pinned requirements, and never mixed with ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import ROOT

HERE = Path(__file__).parent
PEERS = ROOT / ".peers"
NODE_VERSION = "24.21.0"


class PeerMissingError(RuntimeError):
    """A peer cannot be installed on this machine; the message says what went wrong."""


def python_environment(name: str) -> Path:
    """The programs of a virtual environment with ``NAME/requirements.txt``. Raises ``PeerMissingError``."""
    requirements, folder = HERE / name / "requirements.txt", PEERS / name
    wanted = requirements.read_text()
    mark = folder / "installed.txt"
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        _do([uv, "venv", "--quiet", "--python", sys.executable, folder])
        _do([uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "-r", requirements])
        mark.write_text(wanted)
    return folder / "bin"


def node_environment(name: str, package: str) -> Path:
    """The programs of a folder with an npm package, and a Node.js of its own. Raises ``PeerMissingError``."""
    folder = PEERS / name
    mark = folder / "installed.txt"
    if not mark.exists() or mark.read_text() != package:
        npm = shutil.which("npm")
        if npm is None:
            raise PeerMissingError("npm is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        install = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder]
        _do([*install, f"node@{NODE_VERSION}"])
        _do([*install, package], path=folder / "node_modules" / ".bin")
        mark.write_text(package)
    return folder / "node_modules" / ".bin"


def _do(command: list[str | Path], path: Path | None = None) -> None:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise PeerMissingError(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")

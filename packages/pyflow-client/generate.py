"""Generate the synchronous client from the asynchronous one; with ``--check``, compare it with what is committed."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parent / "src" / "pyflow_client"
#: Asynchronous modules, and what is generated of each.
MODULES = {f"asynchronous{part}.py": f"synchronous{part}.py" for part in ("", "_tenancy", "_triggers")}
#: Names that differ beyond what unasync knows (``AsyncIterator``, ``__aenter__``).
NAMES = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncRetryingCaller": "RetryingCaller",
    "AsyncTenantClient": "TenantClient",
    "AsyncTriggerClient": "TriggerClient",
    "aclose": "close",
    "aread": "read",
    "asynchronous_tenancy": "synchronous_tenancy",
    "asynchronous_triggers": "synchronous_triggers",
    "asyncio": "time",
}
#: unasync leaves docstrings and comments as they are; each of these stands in at least one module.
TEXTS = {
    "async with AsyncClient(": "with Client(",
    "``AsyncClient``": "``Client``",
    "Belongs to one event loop": "Thread-safe",
    "code on an event loop": "code without an event loop",
    "  # noqa: ASYNC109 - stamina's timeouts are of attempts": "",
}


def generate() -> dict[Path, str]:
    """Return the text of each generated module."""
    sources = {CLIENT / name: (CLIENT / name).read_text() for name in MODULES}
    unused = [text for text in TEXTS if not any(text in source for source in sources.values())]
    if unused:
        raise SystemExit(f"{__file__}: TEXTS has what no module says: {unused}")
    return {path.with_name(MODULES[path.name]): _synchronous(path.name, source) for path, source in sources.items()}


def _synchronous(name: str, source: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "async", name), Path(folder, "sync", name)
        given.parent.mkdir()
        given.write_text(source)
        unasync.unasync_files([str(given)], [unasync.Rule("/async/", "/sync/", NAMES)])
        text = made.read_text()
    for before, after in TEXTS.items():
        text = text.replace(before, after)
    # `(await x).y` has become `(x).y`.
    text = re.sub(r"\((self\._send\(.*\))\)\.", r"\1.", text)
    text = f"# Generated from {name} by `make format`: edit that one.\n{text}"
    target = str(CLIENT / MODULES[name])
    fixed = _ruff("check", "--fix-only", "--unsafe-fixes", "--quiet", "--stdin-filename", target, text=text)
    return _ruff("format", "--stdin-filename", target, text=fixed)


def _ruff(*arguments: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Write what is generated or, with ``--check``, fail for a file that differs from it."""
    differing = {path: text for path, text in generate().items() if path.read_text() != text}
    if "--check" in sys.argv[1:]:
        if differing:
            raise SystemExit(f"Not as generated: {', '.join(path.name for path in differing)}. Run `make format`.")
        return
    for path, text in differing.items():
        path.write_text(text)


if __name__ == "__main__":
    main()

"""The pytest plugin of this repository: which servers a session has, which tests it runs, what the network is.

The suite runs in two shapes, `single` (the default) and `fleet` (`PYFLOW_TEST_SHAPE=fleet`); `tests/support/shapes.py`
says which tests belong to which. Other tests are deselected, not skipped, and so are those marked `chaos` unless
`PYFLOW_TEST_CHAOS` gives their seed, as `make chaos` does. Tests marked `mariadb` or `browser` need a program that is
in no wheel: where it is not installed they are skipped, or fail if `PYFLOW_REQUIRE_MARIADB=1` or
`PYFLOW_REQUIRE_CHROMIUM=1` says that it has to be there, as CI does.

It is loaded by `addopts = -p tests.support.session`, because Django's settings are read before any conftest is: the
servers must be up and named in the environment by then.
"""

import gc
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import corpora as corpora_files
from tests.support.servers import database_log, launcher, network
from tests.support.shapes import names_mark_of_fleet, shape, shapes_of

OURS = [
    "DATABASE_URL",
    "REDIS_URL",
    *(
        name
        for name in os.environ
        if name.startswith("PYFLOW_") and not name.startswith(("PYFLOW_TEST_", "PYFLOW_CORPORA", "PYFLOW_REQUIRE_"))
    ),
]
"""Variables that configure the product."""
DATABASES = 6
"""How many databases of Redis a worker of pytest-xdist has: PyFlow's four, and those that single tests count in."""
FAILURES_DATABASE, CORPUS_DATABASE = 4, 5


@pytest.hookimpl(wrapper=True)  # a wrapper: before pytest-django, which reads the settings in this very hook
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Bring up the servers of this session's shape, once: workers of pytest-xdist find them in the environment."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        early_config.add_cleanup(_start_servers())
    elif "REDIS_URL" in os.environ:
        # Databases of its own, or the workers would take each other's Celery messages, and count each other's calls.
        first = int(worker.removeprefix("gw")) * DATABASES
        os.environ["REDIS_URL"] = urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{first}").geturl()
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse the network beyond this machine for the whole session, fixtures and collection included."""
    config.add_cleanup(network.refuse())


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out, in the shape `fleet`, a module that names no mark of it: to import all of them takes ten seconds."""
    if shape() == "single" or not collection_path.name.startswith("test_"):
        return None
    return None if names_mark_of_fleet(collection_path.read_text(encoding="utf-8")) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Collect without looking for garbage: the modules and thousands of tests that this makes stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in which transactions got into each other's way, although each test has passed."""
    if _logged_in_the_way():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what PostgreSQL has logged that no session may log."""
    if lines := _logged_in_the_way():
        terminalreporter.section("PostgreSQL's log, see tests/support/servers/database_log.py", red=True)
        terminalreporter.write("\n".join([*lines, ""]))


def _logged_in_the_way() -> list[str]:
    return [line for server in _databases for line in database_log.in_the_way(server.log())]


#: All tests that pytest has collected, those of the other shape included.
COLLECTED = pytest.StashKey[list[pytest.Item]]()
#: The server of this session and of all its workers, in the process that has started it.
_databases: list[launcher.Program] = []


def pytest_report_header() -> str:
    """Name the shape, so that a failure's log says which one it was."""
    return f"shape: {shape()}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fail the test of a corpus's case that no test can read (`tests/support/corpora`)."""
    if (mark := pyfuncitem.get_closest_marker("unreadable")) is not None:
        pytest.fail(mark.args[0], pytrace=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that belong to this shape."""
    config.stash[COLLECTED] = list(items)
    kept = [item for item in items if shape() in shapes_of(item) and (_is_chaos() or not is_long(item))]
    if other := set(items).difference(kept):
        config.hook.pytest_deselected(items=[item for item in items if item in other])
        items[:] = kept
    if launcher.chromium_program() is None and os.environ.get("PYFLOW_REQUIRE_CHROMIUM") != "1":
        for item in items:
            if item.get_closest_marker("browser") is not None:
                item.add_marker(pytest.mark.skip(reason="chromium is not installed (Debian: apt-get install chromium)"))
    if launcher.mariadb_program() is None and os.environ.get("PYFLOW_REQUIRE_MARIADB") != "1":
        reason = f"mariadbd is not installed (Debian: apt-get install {launcher.MARIADB_PACKAGE})"
        for item in items:
            if item.get_closest_marker("mariadb") is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def free_port() -> int:
    """Return a free loopback port; for several, call `launcher.free_port` itself."""
    return launcher.free_port()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Return the folder of attack corpora: `PYFLOW_CORPORA`, or the ones that came with the repository."""
    return corpora_files.folder()


def is_long(item: pytest.Item) -> bool:
    """Return whether only `make chaos` runs a test."""
    return item.get_closest_marker("chaos") is not None


def _is_chaos() -> bool:
    return "PYFLOW_TEST_CHAOS" in os.environ


def _start_servers() -> Callable[[], None]:
    for name in OURS:  # a developer's own shell must not choose what is tested
        os.environ.pop(name, None)
    stack = ExitStack()
    # Not the checkout's `var`: its database and keys belong to whoever runs PyFlow from there.
    os.environ["PYFLOW_HOME"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyflow-home-"))
    if shape() == "fleet":
        # Many tests are one transaction, and may think in it for as long as they like.
        url = os.environ.get("PYFLOW_TEST_DATABASE_URL", "")
        if not url:
            _databases.append(stack.enter_context(launcher.postgres_server(launcher.SPEED_OVER_SAFETY)))
            url = _databases[0].url
        os.environ["DATABASE_URL"] = f"{url}{'&' if '?' in url else '?'}options="
        os.environ["REDIS_URL"] = stack.enter_context(launcher.redis())
    return stack.close

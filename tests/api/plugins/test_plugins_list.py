"""`GET /api/v1/plugins`."""

from importlib import metadata

import pytest

from plugins import discovery
from pyflow.nodes import default_registry, installed_types, plugins
from tests.support.api import Api, assert_problem, read
from tests.support.factories.plugins import WRONG
from tests.support.factories.rows import make_api_key

OPERATION = "plugins_list"
PATH = "/api/v1/plugins"
pytestmark = pytest.mark.api


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Entry points that cannot be used; they are looked for anew."""
    points = [
        metadata.EntryPoint("shout", "tests.support.factories.nodes:Nothing", plugins.GROUP),
        metadata.EntryPoint("again", "pyflow.nodes.log:LogNode", plugins.GROUP),
        *(metadata.EntryPoint(name, f"tests.support.factories.plugins:{name}", plugins.GROUP) for name in WRONG),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    monkeypatch.setattr(discovery, "default_registry", installed_types())
    with discovery.using(None):
        yield


@pytest.mark.usefixtures("installed")
def test_a_broken_one_disables_only_itself_and_says_why_to_admins(api: Api):
    found = {item["name"]: item for item in read(api.get(PATH))["results"]}
    assert found["shout"]["status"] == "broken"
    assert "Nothing" in found["shout"]["error"]
    assert {found[name]["status"] for name in WRONG} == {"broken"}
    assert api.get("/api/v1/nodes/log").status_code == 200
    assert [node["type"] for node in read(api.get("/api/v1/nodes"))["results"]] == default_registry.list_types()


@pytest.mark.usefixtures("installed")
def test_an_editor_does_not_see_the_error(tenant):
    editor = Api(make_api_key(tenant, role="editor")[1])
    results = read(editor.get(PATH))["results"]
    assert [item["name"] for item in results] == sorted(["again", "shout", *WRONG])
    assert {item["error"] for item in results} == {None}


def test_there_are_no_parameters(api: Api):
    assert_problem(api.get(f"{PATH}?limit=1"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.get(PATH).content == other_api.get(PATH).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.get(PATH)
    with django_assert_num_queries(0):
        assert api.get(PATH).status_code == 200

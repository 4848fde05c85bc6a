"""`GET /api/v1/workflows`."""

import pytest

from tests.support.api import Api, assert_problem, is_uuid7, read
from tests.support.factories.rows import HELLO, make_workflow

OPERATION = "workflows_list"
PATH = "/api/v1/workflows"
pytestmark = pytest.mark.api


def test_it_lists_workflows_by_name_with_their_newest_version(api: Api, tenant):
    make_workflow(tenant, HELLO.replace("name: hello", "name: zebra"))
    make_workflow(tenant)
    newest = make_workflow(tenant, HELLO.replace("Greets", "Greets again"))

    response = api.get(PATH)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    first, second = read(response)["results"]
    assert (first["name"], first["version"], first["checksum"]) == ("hello", 2, newest.checksum)
    assert (second["name"], second["version"]) == ("zebra", 1)
    assert first["description"] == "Greets again"
    assert first["labels"] == {"team": "tests"}
    assert is_uuid7(first["id"])
    assert first.keys() == {
        "id", "name", "description", "labels", "version", "version_state", "checksum",
        "archived_at", "created_at", "updated_at",
    }  # fmt: skip
    assert first["created_at"].endswith(("Z", "+00:00"))


def test_it_is_empty_for_a_new_tenant(api: Api):
    assert read(api.get(PATH)) == {"results": [], "next": None, "previous": None}


def test_it_answers_in_yaml(api: Api, tenant):
    make_workflow(tenant)
    response = api.get(PATH, accept="application/yaml")
    assert response.headers["Content-Type"] == "application/yaml"
    assert [item["name"] for item in read(response)["results"]] == ["hello"]


def test_a_trailing_slash_is_accepted(api: Api, tenant):
    make_workflow(tenant)
    assert api.get(PATH + "/").content == api.get(PATH).content


def test_it_answers_in_no_other_format(api: Api):
    assert_problem(api.get(PATH, accept="text/html"), 406, "not_acceptable")


def test_it_comes_in_pages_that_stay_stable_while_workflows_are_added(api: Api, tenant):
    for name in "bdfh":
        make_workflow(tenant, HELLO.replace("name: hello", f"name: {name}"))
    first = api.get(f"{PATH}?limit=2")
    assert [item["name"] for item in read(first)["results"]] == ["b", "d"]
    address = read(first)["next"]
    assert first.headers["Link"] == f'<{address}>; rel="next"'

    for name in "ag":
        make_workflow(tenant, HELLO.replace("name: hello", f"name: {name}"))
    second = read(api.get(address.removeprefix("http://testserver")))
    assert [item["name"] for item in second["results"]] == ["f", "g"]
    back = read(api.get(second["previous"].removeprefix("http://testserver")))
    assert [item["name"] for item in back["results"]] == ["b", "d"]


REFUSED = {
    "limit": "limit=0", "limit ": "limit=201", "limit  ": "limit=x", "nmae": "nmae=hello", "page": "page=2",
    "label/0": "label=team", "state": "state=x", "ordering": "ordering=checksum", "search": "search=%00",
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_parameters_that_there_are_not_are_refused(api: Api, field: str):
    body = assert_problem(api.get(f"{PATH}?{REFUSED[field]}"), 422, "input_invalid")
    assert body["errors"][0]["pointer"] == f"/{field.strip()}"


@pytest.mark.vendor("each vendor searches JSON and text in its own way")
def test_filters_and_orders(api: Api, tenant):
    make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("name: hello", "name: other").replace("team: tests", "team: 'a:b', k__x: y"))

    def names(query: str) -> list[str]:
        return [item["name"] for item in read(api.get(f"{PATH}?{query}"))["results"]]

    assert names("search=HELL") == ["hello"]
    assert names("search=greets&ordering=-name") == ["other", "hello"]
    assert names("label=team:tests") == ["hello"]
    assert names("label=team:a:b&label=k__x:y") == ["other"]
    assert names("label=team:tests&label=k__x:y") == []
    assert names("label=team__contains:t") == []
    assert names("ordering=-created_at&limit=1") == ["other"]
    assert names("created_after=2020-01-01T00:00:00Z") == ["hello", "other"]
    assert names("created_before=2020-01-01T00:00:00Z") == []
    assert names("updated_before=2020-01-01T00:00:00Z") == []


def test_what_is_archived_is_listed_when_it_is_asked_for(api: Api, tenant):
    make_workflow(tenant)
    api.post(f"{PATH}/hello/archive")
    assert read(api.get(PATH))["results"] == []
    [archived] = read(api.get(f"{PATH}?state=archived"))["results"]
    assert archived["archived_at"]
    assert len(read(api.get(f"{PATH}?state=all"))["results"]) == 1


def test_a_cursor_of_nobody_is_refused(api: Api):
    assert_problem(api.get(f"{PATH}?cursor=eyJ4"), 400, "cursor_invalid")


def test_it_needs_a_key(nobody: Api):
    response = nobody.get(PATH)
    assert_problem(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pyflow"'


def test_it_names_the_methods_that_there_are(api: Api):
    response = api.send("DELETE", PATH)
    assert_problem(response, 405, "method_not_allowed")
    assert {"GET", "POST"} <= {method.strip() for method in response.headers["Allow"].split(",")}


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    make_workflow(tenant)
    assert read(other_api.get(PATH))["results"] == []


def test_its_queries_do_not_grow_with_what_there_is(api: Api, tenant, django_assert_num_queries):
    for name in "abcde":
        make_workflow(tenant, HELLO.replace("name: hello", f"name: {name}"))
    api.get("/api/v1/runs/00000000-0000-7000-8000-000000000000")  # the key is checked
    with django_assert_num_queries(1):
        assert len(read(api.get(PATH))["results"]) == 5

"""The `http` node of version 2: bodies, authorisation, pages, forms of the answer. `tests/contract_v1` has v1's."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.result import NodeRun
from pyflow.core.states import NodeState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.net.files import current_quota, current_root
from pyflow.nodes import default_registry
from pyflow.nodes.http.node import HttpNode
from pyflow_sdk.node import NodeContext
from tests.unit.nodes.web import Asked, Reply, Web, node, run, serving


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as started:
        yield started


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    token = current_root.set(tmp_path)
    yield tmp_path
    current_root.reset(token)


async def ask(web: Web, path: str = "/", **config: Any) -> NodeRun:
    return await node("http", {"url": web.url + path, "allow_private_networks": True, **config})


async def output(web: Web, path: str = "/", **config: Any) -> dict[str, Any]:
    ended = await ask(web, path, **config)
    assert ended.error is None, ended.error.message
    assert isinstance(ended.output, dict)
    HttpNode.Output.model_validate(ended.output)
    return ended.output


def error_of(ended: NodeRun) -> tuple[str, str]:
    assert ended.error is not None
    return ended.error.code, ended.error.message


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- bodies


@pytest.mark.parametrize(
    ("config", "content_type", "sent"),
    [
        ({"body": {"a": [1, "ä"]}}, "application/json", '{"a":[1,"ä"]}'),
        ({"json": {"a": 1}}, "application/json", '{"a":1}'),
        ({"json": False}, "application/json", "false"),
        ({"form": {"a": ["1", 2], "b": True, "c": None, "d": "x&y"}}, "application/x-www-form-urlencoded",
         "a=1&a=2&b=true&d=x%26y"),
        ({"text": "grüße"}, "text/plain; charset=utf-8", "grüße"),
    ],
)  # fmt: skip
async def test_a_body_is_sent_as_it_is_meant(web: Web, config: dict[str, Any], content_type: str, sent: str):
    await output(web, method="POST", **config)
    assert web.asked[0].headers["content-type"] == content_type
    assert web.asked[0].body.decode() == sent


async def test_a_content_type_of_ones_own_wins(web: Web):
    await output(web, method="POST", text="<a/>", headers={"content-type": "application/xml"})
    assert web.asked[0].headers["content-type"] == "application/xml"


async def test_a_stored_file_is_sent(web: Web, storage: Path):
    (storage / "in").mkdir()
    (storage / "in" / "data.csv").write_bytes(b"a,b\n" * 200_000)
    await output(web, method="PUT", file="in/data.csv")
    assert web.asked[0].body == b"a,b\n" * 200_000
    assert web.asked[0].headers["content-type"] == "text/csv"
    assert "transfer-encoding" not in web.asked[0].headers


async def test_a_multipart_form_has_fields_and_files(web: Web, storage: Path):
    (storage / "a.txt").write_text("hello")
    files = [{"name": "doc", "path": "a.txt", "filename": 'we"ird\r\n.txt', "content_type": "text/x-own"}]
    await output(web, method="POST", multipart={"fields": {"k": ["v", 1]}, "files": files})
    boundary = web.asked[0].headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert web.asked[0].body.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="k"\r\n\r\nv\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="doc"; filename="we%22ird%0D%0A.txt"\r\n'
        f"Content-Type: text/x-own\r\n\r\nhello\r\n--{boundary}--\r\n"
    )


async def test_a_redirect_sends_a_file_again(web: Web, storage: Path):
    (storage / "a.txt").write_text("hello")
    web.answer = lambda asked: Reply({}, 307, {"Location": "/there"}) if asked.path == "/" else Reply("ok")
    assert (await output(web, method="POST", file="a.txt"))["body"] == "ok"
    assert [asked.body for asked in web.asked] == [b"hello", b"hello"]


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "a/../../b"])
async def test_files_outside_the_storage_are_not_sent(web: Web, storage: Path, path: str):
    (storage / "link").symlink_to("/etc/hostname")
    assert error_of(await ask(web, method="POST", file=path))[0] == "path_refused"
    assert not web.asked


async def test_a_file_that_is_not_there_is_named(web: Web, storage: Path):
    assert error_of(await ask(web, method="POST", file="gone.txt")) == (
        "file_not_found", "no such file in the storage: 'gone.txt'"
    )  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        {"json": 1, "text": "x"},
        {"body": {}, "form": {"a": 1}},
        {"response": "file"},
        {"save_to": "x"},
        {"response": "xml"},
        {"auth": {"type": "digest"}},
        {"auth": {"type": "bearer", "token": "t"}, "headers": {"authorization": "x"}},
        {"paginate": {"next": "link"}, "response": "file", "save_to": "x"},
        {"paginate": {}},
    ],
)
def test_what_contradicts_itself_is_found_beforehand(config: dict[str, Any]):
    with pytest.raises(ValueError, match="HttpConfig"):
        HttpNode.Config.model_validate({"url": "https://example.com/", **config})


# --- params


@pytest.mark.parametrize(
    ("url", "params", "path"),
    [
        ("/", {"a": 1, "b": ["x", "y z"], "c": None, "d": True}, "/?a=1&b=x&b=y+z&d=true"),
        ("/p?k=v", {"a": "ä&"}, "/p?k=v&a=%C3%A4%26"),
        ("/p?", {"a": 1}, "/p?a=1"),
        ("/p#frag", {"a": 1}, "/p?a=1"),
        ("/p", {}, "/p"),
    ],
)
async def test_params_are_added_to_the_query(web: Web, url: str, params: dict[str, Any], path: str):
    await output(web, url, params=params)
    assert web.asked[0].path == path


# --- who asks


async def test_basic_and_bearer(web: Web):
    await output(web, auth={"type": "basic", "username": "ada", "password": "pä:ss"})
    await output(web, auth={"type": "bearer", "token": "t-1"})
    encoded = base64.b64encode("ada:pä:ss".encode()).decode()
    assert [asked.headers["authorization"] for asked in web.asked] == [f"Basic {encoded}", "Bearer t-1"]


async def test_a_username_with_a_colon_is_refused(web: Web):
    _, message = error_of(await ask(web, auth={"type": "basic", "username": "a:b", "password": "c"}))
    assert "colon" in message


class Guarded:
    """An API and its token server, which numbers the tokens."""

    def __init__(self, web: Web, lifetime: Any = 3600) -> None:
        self.issued, self.lifetime = 0, lifetime
        self.revoked: set[str] = set()
        self.web = web
        web.answer = self.answer

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/token":
            self.issued += 1
            return Reply({"access_token": f"token-{self.issued}", "token_type": "Bearer", "expires_in": self.lifetime})
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        return Reply({"error": "expired"}, 401) if token in self.revoked else Reply({"token": token})

    def auth(self, client: str, **more: Any) -> dict[str, Any]:
        return {
            "type": "oauth2_client_credentials",
            "token_url": f"{self.web.url}/token",
            "client_id": client,
            "client_secret": "s3cret/+",
            **more,
        }


async def test_a_token_is_fetched_once_and_kept(web: Web):
    api = Guarded(web)
    for _ in range(3):
        await output(web, auth=api.auth("kept", scope="read write"))
    assert api.issued == 1
    assert [asked.headers["authorization"] for asked in web.asked[1:]] == ["Bearer token-1"] * 3
    asked = web.asked[0]
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["read write"]}
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"kept:s3cret%2F%2B"


async def test_a_client_may_name_itself_in_the_body(web: Web):
    api = Guarded(web)
    await output(web, auth=api.auth("in-body", client_auth="body"))
    assert parse_qs(web.asked[0].body.decode())["client_secret"] == ["s3cret/+"]
    assert "authorization" not in web.asked[0].headers


async def test_many_at_once_fetch_one_token(web: Web):
    api = Guarded(web)
    config = {"url": web.url, "allow_private_networks": True, "auth": api.auth("crowd")}
    result = await run({"id": "n", "type": "http", "for_each": list(range(20)), "config": config})
    assert result.nodes["n"].state is NodeState.SUCCEEDED
    assert api.issued == 1


async def test_a_token_that_expired_is_not_used(web: Web):
    api = Guarded(web, lifetime=0)
    await output(web, auth=api.auth("brief"))
    await output(web, auth=api.auth("brief"))
    assert api.issued == 2


async def test_a_token_that_is_refused_is_renewed_once(web: Web):
    api = Guarded(web)
    await output(web, auth=api.auth("renewed"))
    api.revoked = {"token-1"}
    await output(web, auth=api.auth("renewed"))
    assert api.issued == 2
    api.revoked = {"token-2", "token-3"}
    code, message = error_of(await ask(web, auth=api.auth("renewed")))
    assert code == "http_status"
    assert "401" in message
    assert api.issued == 3


async def test_another_secret_gets_no_token_of_the_cache(web: Web):
    api = Guarded(web)
    await output(web, auth=api.auth("theirs"))
    await output(web, auth={**api.auth("theirs"), "client_secret": "guessed"})
    assert api.issued == 2


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply({"error": "invalid_client"}, 401), "oauth2_token_refused"),
        (Reply({"token": "x"}), "oauth2_token_refused"),
        (Reply({"access_token": "a\r\nb"}), "oauth2_token_refused"),
        (Reply({"access_token": "a", "token_type": "mac"}), "oauth2_token_refused"),
        (Reply(b"<html>", 503, {"Retry-After": "7"}), "oauth2_token_unavailable"),
        (Reply({}, 302, {"Location": "/elsewhere"}), "oauth2_token_refused"),
    ],
)
async def test_what_a_token_server_may_answer_instead(web: Web, reply: Reply, code: str):
    web.answer = lambda asked: reply
    auth = Guarded(web).auth(f"bad-{reply.status}-{reply.body!r}")
    web.answer = lambda asked: reply
    assert error_of(await ask(web, auth=auth))[0] == code
    assert [asked.path for asked in web.asked] == ["/token"]


async def test_a_token_server_is_bound_to_the_policy(web: Web):
    auth = Guarded(web).auth("bound", token_url="http://169.254.169.254/token")
    assert error_of(await ask(web, auth=auth))[0] == "ssrf_blocked"


async def test_a_token_is_masked_like_a_secret(web: Web):
    api = Guarded(web)
    api.answer = lambda asked: Reply({"access_token": "tok-very-long-1"})  # type: ignore[method-assign]
    web.answer = lambda asked: (
        Reply({"access_token": "tok-very-long-1"}) if asked.path == "/token" else Reply(asked.headers["authorization"])
    )
    context = ExecutionContext("w", "r")
    context.scope = {}
    config = {"url": web.url, "allow_private_networks": True, "auth": api.auth("masked")}
    answer = await HttpNode().execute(config, context)
    assert context.redactor.redact(answer["body"]) == "Bearer ***"


async def test_a_token_that_was_fetched_in_a_process_of_its_own_is_masked_here(web: Web):
    api = Guarded(web)
    web.answer = lambda asked: (
        Reply({"access_token": "tok-very-long-9"}) if asked.path == "/token" else Reply(asked.headers["authorization"])
    )
    config = {"url": web.url, "allow_private_networks": True, "auth": api.auth("isolated")}
    definition = {"id": "a", "type": "http", "isolation": "process", "config": config}
    workflow = WorkflowDef.model_validate({"version": 2, "name": "w", "nodes": [definition]})
    result = await WorkflowEngine(default_registry).execute(workflow)
    assert result.succeeded, result.error
    assert result.as_dict()["nodes"][0]["output"]["body"] == "Bearer ***"


# --- idempotency


async def key_of(web: Web, **config: Any) -> str | None:
    context = ExecutionContext("w", "r")
    context.scope = {}
    ctx = NodeContext(run_id="r", node_id="n", workflow="w", idempotency_key="r:n")
    await HttpNode().execute({"url": web.url, "allow_private_networks": True, **config}, context, ctx)
    return web.asked[-1].headers.get("idempotency-key")


async def test_requests_that_may_not_happen_twice_carry_a_key(web: Web):
    assert await key_of(web, method="POST") == "r:n"
    assert await key_of(web, method="patch") == "r:n"
    assert await key_of(web, method="PUT") is None
    assert await key_of(web) is None
    assert await key_of(web, method="POST", headers={"idempotency-key": "mine"}) == "mine"


async def test_the_engine_hands_over_the_key_of_the_node_and_the_item(web: Web):
    config = {"url": web.url, "allow_private_networks": True, "method": "POST"}
    await run(
        {"id": "one", "type": "http", "config": config},
        {"id": "each", "type": "http", "config": config, "for_each": ["x"], "depends_on": ["one"]},
    )
    assert [asked.headers.get("idempotency-key") for asked in web.asked] == ["run-1:one", "run-1:each:0"]


async def test_version_1_sends_no_key_and_passes_over_new_options(web: Web):
    context = ExecutionContext("w", "r")
    ctx = NodeContext(run_id="r", node_id="n", workflow="w")
    config = {
        "url": web.url,
        "allow_private_networks": True,
        "method": "POST",
        "auth": {"type": "bearer", "token": "t"},
        "text": "x",
        "response": "bytes",
    }
    answer = await HttpNode().execute(config, context, ctx)
    assert answer["body"] == {}
    assert not {"idempotency-key", "authorization"} & web.asked[0].headers.keys()
    assert web.asked[0].body == b""


# --- forms of the answer


@pytest.mark.parametrize(
    ("form", "sent", "body"),
    [
        ("auto", b'{"a": 1}', {"a": 1}),
        ("auto", b"plain", "plain"),
        ("json", b"[1]", [1]),
        ("text", b"[1]", "[1]"),
        ("bytes", b"\x00\xff", "AP8="),
        ("none", b"anything", None),
    ],
)
async def test_the_answer_is_given_in_the_form_that_was_asked_for(web: Web, form: str, sent: bytes, body: Any):
    web.answer = lambda asked: Reply(sent)
    assert (await output(web, response=form))["body"] == body


async def test_an_answer_that_is_no_json_fails_where_json_was_asked_for(web: Web):
    web.answer = lambda asked: Reply(b"<html>")
    assert error_of(await ask(web, response="json"))[0] == "unexpected_answer"


@pytest.mark.parametrize("size", [0, 3_000_000])
async def test_an_answer_is_saved(web: Web, storage: Path, size: int):
    web.answer = lambda asked: Reply(b"x" * size)
    answer = await output(web, response="file", save_to="got/it.bin")
    assert answer["body"] == {"path": "got/it.bin", "size": size}
    assert (storage / "got" / "it.bin").read_bytes() == b"x" * size


async def test_an_answer_that_is_too_large_leaves_no_file(web: Web, storage: Path):
    web.answer = lambda asked: Reply(b"x" * 5000)
    ended = await ask(web, response="file", save_to="it.bin", max_response_size=4999)
    assert error_of(ended)[0] == "response_too_large"
    assert names_in(storage) == set()


async def test_an_error_is_not_saved(web: Web, storage: Path):
    web.answer = lambda asked: Reply({"error": "gone"}, 404)
    answer = await output(web, response="file", save_to="it.bin", raise_for_status=False)
    assert (answer["status"], answer["body"]) == (404, {"error": "gone"})
    assert names_in(storage) == set()


async def test_saving_keeps_to_the_quota_and_the_root(web: Web, storage: Path):
    web.answer = lambda asked: Reply(b"x" * 5000)
    token = current_quota.set(1000)
    try:
        assert error_of(await ask(web, response="file", save_to="it"))[0] == "stored_bytes_exceeded"
    finally:
        current_quota.reset(token)
    assert error_of(await ask(web, response="file", save_to="../it"))[0] == "path_refused"


# --- pages


def shelf(pages: int, **extra: str) -> Any:
    """Answers with pages that name the next one in the body, by cursor, and in a Link header."""

    def answer(asked: Asked) -> Reply:
        query = parse_qs(urlsplit(asked.path).query)
        number = int(query.get("page", ["1"])[0])
        more = number < pages
        body = {
            "items": [number * 10, number * 10 + 1],
            "next": f"/list?page={number + 1}" if more else None,
            "cursor": number + 1 if more else None,
        }
        link = f'<{extra.get("base", "")}/list?page={number + 1}>; title="a;b"; rel="next last", </x>; rel="first"'
        return Reply(body, headers={"Link": link if more else '</x>; rel="first"'})

    return answer


@pytest.mark.parametrize(
    "rule",
    [
        "$.next",
        "link",
        "response['body']['next']",
        "{'page': response['body']['cursor']} if response['body']['cursor'] else None",
        "{'page': page + 1} if page < 3 else None",
    ],
)
async def test_pages_are_followed_and_their_items_collected(web: Web, rule: str):
    web.answer = shelf(3)
    answer = await output(web, "/list?page=1&size=2", paginate={"next": rule, "items": "$.items"})
    assert answer["items"] == [10, 11, 20, 21, 30, 31]
    assert (answer["pages"], answer["more"], answer["status"]) == (3, False, 200)
    assert "body" not in answer


async def test_pages_without_items_are_kept_whole_up_to_their_number(web: Web):
    web.answer = shelf(100)
    answer = await output(web, "/list", paginate={"next": "link", "max_pages": 4})
    assert [body["items"][0] for body in answer["bodies"]] == [10, 20, 30, 40]
    assert (answer["pages"], answer["more"]) == (4, True)


async def test_ten_pages_are_read_unless_something_else_is_said(web: Web):
    web.answer = shelf(100)
    assert (await output(web, "/list", paginate={"next": "$.next"}))["pages"] == 10


async def test_the_size_limit_is_one_for_all_pages(web: Web):
    web.answer = lambda asked: Reply({"next": "/list", "x": "y" * 1000})
    ended = await ask(web, "/list", paginate={"next": "$.next"}, max_response_size=3000)
    assert error_of(ended)[0] == "response_too_large"
    assert len(web.asked) == 3


async def test_the_time_limit_is_one_for_all_pages(web: Web):
    def slow(asked: Asked) -> Reply:
        web.released.wait(0.12)
        return Reply({"next": "/list"})

    web.answer = slow
    ended = await asyncio.wait_for(ask(web, "/list", paginate={"next": "$.next", "max_pages": 100}, timeout=0.5), 60)
    assert error_of(ended)[0] == "http_timeout"
    assert 2 <= len(web.asked) <= 6


async def test_credentials_do_not_follow_to_another_server(web: Web):
    with serving() as other:
        web.answer = shelf(3, base=other.url)
        ended = await ask(web, "/list", paginate={"next": "link"}, auth={"type": "bearer", "token": "t"})
        assert error_of(ended)[0] == "unexpected_answer"
        assert not other.asked


async def test_each_page_is_an_operation_of_its_own(web: Web):
    web.answer = shelf(3)
    await key_of(web, method="POST", json={"q": 1}, paginate={"next": "$.next"})
    assert [asked.headers["idempotency-key"] for asked in web.asked] == ["r:n", "r:n:2", "r:n:3"]
    assert [json.loads(asked.body) for asked in web.asked] == [{"q": 1}] * 3


async def test_each_page_is_checked_like_a_first_request(web: Web):
    web.answer = lambda asked: Reply({}, headers={"Location": "http://169.254.169.254/"}, status=302)
    assert error_of(await ask(web, "/list", paginate={"next": "link"}))[0] == "ssrf_blocked"


@pytest.mark.parametrize("following", [5, True, ["x"], "http://[bad"])
async def test_a_next_that_is_no_url_is_an_error(web: Web, following: Any):
    web.answer = lambda asked: Reply({"next": following})
    assert error_of(await ask(web, paginate={"next": "$.next"}))[0] == "unexpected_answer"

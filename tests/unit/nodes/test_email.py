"""The `email` node, against a real SMTP server on loopback."""

import asyncio
import datetime
import email
import email.policy
import email.utils
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pyflow.core.result import NodeRun
from pyflow.net.files import current_root
from pyflow.nodes.email.config import MessageRefusedError
from pyflow.nodes.email.headers import require_same
from pyflow.nodes.email.node import EmailNode
from tests.unit.nodes.web import node, run


@dataclass
class Mailbox:
    """Takes messages; refuses who is in `refused`, with that reply."""

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    data_reply: str = "250 taken"
    encrypted: list[bool] = field(default_factory=list)
    authenticated: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - the server's name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        self.encrypted.append(session.ssl is not None)
        self.authenticated.append(bool(session.authenticated))
        return self.data_reply

    def message(self) -> EmailMessage:
        content = self.envelopes[-1].content
        assert isinstance(content, bytes)
        found = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def raw(self) -> Message:
        """The last message with its values undecoded, as what came over the wire."""
        content = self.envelopes[-1].content
        assert isinstance(content, bytes)
        return email.message_from_bytes(content, policy=email.policy.compat32)

    def headers(self) -> list[str]:
        return [name for name in self.raw() if name not in {"X-Peer", "X-MailFrom", "X-RcptTo"}]


BODY = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]


def decoded(value: str) -> str:
    """The text of an undecoded header value (RFC 2047)."""
    return str(make_header(decode_header(value)))


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ada", b"hunter22!")
    return AuthResult(success=right, handled=right)


@asynccontextmanager
async def serving(listener_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Mailbox]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    factory: Callable[[], SMTP] = lambda: SMTP(box, hostname="mx.test", **options)  # noqa: E731
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=listener_tls)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for `localhost`, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator trusts the certificate, as for a private authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    token = current_root.set(tmp_path)
    yield tmp_path
    current_root.reset(token)


def letter(box: Mailbox, smtp: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "smtp": {"host": "127.0.0.1", "port": box.port, "tls": "none", **(smtp or {})},
        "from": "Ada <ada@example.com>",
        "to": "bo@example.com",
        "subject": "Hello",
        "text": "Grüße",
        "allow_private_networks": True,
        **more,
    }


async def send(config: dict[str, Any]) -> dict[str, Any]:
    ended = await node("email", config)
    assert ended.error is None, ended.error.message
    assert isinstance(ended.output, dict)
    return ended.output


async def refusal(config: dict[str, Any]) -> tuple[str, str]:
    ended: NodeRun = await node("email", config)
    assert ended.error is not None
    return ended.error.code, ended.error.message


# --- the message


async def test_a_message_arrives():
    async with serving() as box:
        answer = await send(letter(box))
    assert answer == {"message_id": answer["message_id"], "accepted": ["bo@example.com"], "refused": {}}
    message = box.message()
    assert (message["From"], message["To"], message["Subject"]) == ("Ada <ada@example.com>", "bo@example.com", "Hello")
    assert message["Message-ID"] == answer["message_id"]
    assert message["Date"]
    assert message.get_content().strip() == "Grüße"
    assert box.envelopes[0].mail_from == "ada@example.com"


async def test_everybody_gets_it_and_the_hidden_ones_are_not_named():
    async with serving() as box:
        answer = await send(
            letter(
                box,
                to=["Bo <bo@example.com>", "cy@example.com"],
                cc="di@example.com, ed@example.com",
                bcc=["fy@example.com", "bo@example.com"],
                reply_to="desk@example.com",
            )
        )
    everybody = [f"{name}@example.com" for name in ("bo", "cy", "di", "ed", "fy")]
    assert answer["accepted"] == everybody
    assert box.envelopes[0].rcpt_tos == everybody
    message = box.message()
    assert message["To"] == "Bo <bo@example.com>, cy@example.com"
    assert (message["Cc"], message["Reply-To"]) == ("di@example.com, ed@example.com", "desk@example.com")
    assert "fy@" not in message.as_string()
    assert message["Bcc"] is None


async def test_text_and_html_are_alternatives():
    async with serving() as box:
        await send(letter(box, html="<p>Grüße</p>"))
    message = box.message()
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


async def test_html_may_come_alone():
    async with serving() as box:
        await send(letter(box, text=None, html="<p>x</p>"))
    assert box.message().get_content_type() == "text/html"


async def test_stored_files_are_attached(storage: Path):
    (storage / "out").mkdir()
    (storage / "out" / "rechnung ä.pdf").write_bytes(b"%PDF \x00\xff")
    (storage / "data").write_bytes(b"\x01")
    async with serving() as box:
        await send(letter(box, attachments=["out/rechnung ä.pdf", "data"]))
    found = [
        (part.get_filename(), part.get_content_type(), part.get_content()) for part in box.message().iter_attachments()
    ]
    assert found == [
        ("rechnung ä.pdf", "application/pdf", b"%PDF \x00\xff"),
        ("data", "application/octet-stream", b"\x01"),
    ]


async def test_files_outside_the_storage_are_not_attached(storage: Path):
    async with serving() as box:
        assert (await refusal(letter(box, attachments=["../x"])))[0] == "path_refused"
        assert (await refusal(letter(box, attachments=["gone"])))[0] == "file_not_found"
    assert not box.envelopes


async def test_a_repetition_can_be_detected_by_its_id():
    async with serving() as box:
        first, second = await send(letter(box)), await send(letter(box))
        other = await run({"id": "other", "type": "email", "config": letter(box)})
    assert first["message_id"] == second["message_id"]
    assert other.nodes["other"].output["message_id"] != first["message_id"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "Hello\r\nBcc: eve@example.com"},
        {"subject": "Hello\nBcc: eve@example.com"},
        {"subject": "a\x00b"},
        {"subject": "a\u2028Bcc: eve@example.com"},
        {"to": "bo@example.com\r\nBcc: eve@example.com"},
        {"to": "bo@example.com>\r\nRCPT TO:<eve@example.com"},
        {"to": ["bo@example.com", "no address"]},
        {"to": "@example.com"},
        {"to": "bo@"},
        {"to": "a@b@example.com"},
        {"to": []},
        {"to": ""},
        {"cc": "x\n@example.com"},
        {"from": "ada@example.com, eve@example.com"},
        {"from": "ada@example.com\nX: y"},
        {"reply_to": "nobody"},
        {"text": None},
        {"to": [f"u{n}@example.com" for n in range(501)]},
        {"subject": "\ud800"},
    ],
)
async def test_what_would_be_another_message_is_refused(wrong: dict[str, Any]):
    async with serving() as box:
        assert (await refusal(letter(box, **wrong)))[0] == "message_refused"
    assert not box.envelopes


# --- encoded words (RFC 2047), which the standard library decodes in values, line ends and all

BREAKS = "=?utf-8?q?a=0d=0aBcc:_eve@example.com?="
FORMS = [
    BREAKS,
    "=?utf-8?b?YQ0KQmNjOiBldmVAZXhhbXBsZS5jb20=?=",
    f"Hello {BREAKS} there",
    f"Grüße {BREAKS}",
    "=?utf-8?q?a=0d=0a=0d=0aa_new_body?=",
    "=?utf-8?q?a=00b?=",
    "=?utf-8*en?q?a=0aX:_y?=",
    "=?us-ascii?Q?=0D=0AX-Evil:_1?= =?us-ascii?Q?=0D=0AX-More:_2?=",
    "=?utf-8?q?plain?=",
    "1 =? 2",
    "=?" * 200,
]


@pytest.mark.parametrize("value", FORMS)
async def test_a_subject_arrives_as_it_was_written(value: str):
    async with serving() as box:
        await send(letter(box, subject=value))
    assert box.headers() == ["From", "To", "Subject", "Date", "Message-ID", *BODY]
    assert decoded(box.raw()["Subject"]) == value


@pytest.mark.parametrize("value", [form for form in FORMS if '"' not in form and "," not in form])
@pytest.mark.parametrize("place", ["from", "to", "cc", "reply_to"])
async def test_a_display_name_arrives_as_it_was_written(place: str, value: str):
    async with serving() as box:
        await send(letter(box, **{place: f'"{value}" <di@example.com>'}))
    header = {"from": "From", "to": "To", "cc": "Cc", "reply_to": "Reply-To"}[place]
    expected = {"From", "To", "Subject", "Date", "Message-ID", *BODY, header}
    assert set(box.headers()) == expected
    assert len(box.headers()) == len(expected)
    name, address = email.utils.parseaddr(box.raw()[header])
    assert (decoded(name), address) == (value, "di@example.com")
    everybody = {"bo@example.com", "di@example.com"} if place == "cc" else {"bo@example.com"}
    assert set(box.envelopes[0].rcpt_tos) == ({"di@example.com"} if place == "to" else everybody)


async def test_names_beside_one_that_looks_encoded_keep_their_form():
    async with serving() as box:
        await send(letter(box, to=["=?utf-8?q?x?= <a@example.com>", "Bö <b@example.com>", "c@example.com"]))
    named = email.utils.getaddresses([box.raw()["To"]])
    assert [(decoded(name), address) for name, address in named] == [
        ("=?utf-8?q?x?=", "a@example.com"), ("Bö", "b@example.com"), ("", "c@example.com"),
    ]  # fmt: skip


@pytest.mark.parametrize("form", [form for form in FORMS if "/" not in form and len(form) < 200])
async def test_the_name_of_an_attachment_arrives_as_it_is(storage: Path, form: str):
    name = f"{form}.txt"
    (storage / name).write_bytes(b"content")
    async with serving() as box:
        await send(letter(box, attachments=[name]))
    attached = box.raw().get_payload()[1]
    assert attached.keys() == ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version"]
    assert attached.get_filename() == name
    assert attached.get_payload(decode=True) == b"content"
    content = box.envelopes[0].content
    assert isinstance(content, bytes)
    assert b"=?" not in content.replace(b"=?utf-8?", b"").partition(b"Content-Disposition")[2]


async def test_an_attached_message_is_a_file(storage: Path):
    """A reader of mail would take headers and parts of this message out of it."""
    (storage / "old.eml").write_bytes(b"Subject: x\r\n\r\ny")
    async with serving() as box:
        await send(letter(box, attachments=["old.eml"]))
    (attached,) = box.message().iter_attachments()
    assert (attached.get_content_type(), attached.get_content()) == ("application/octet-stream", b"Subject: x\r\n\r\ny")


@pytest.mark.parametrize("place", ["from", "to", "cc", "bcc", "reply_to"])
async def test_no_address_looks_like_an_encoded_word(place: str):
    async with serving() as box:
        assert (await refusal(letter(box, **{place: "=?utf-8?q?a=0d=0aX=20?=@example.com"})))[0] == "message_refused"
    assert not box.envelopes


@pytest.mark.parametrize(
    "added", [b"Bcc: eve@example.com\r\n", b"Subject: y\r\n", b"\r\nbody\r\n", b"To: eve@example.com\r\n"]
)
def test_bytes_that_are_not_the_message_are_not_sent(added: bytes):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.com", "bo@example.com", "x"
    message.set_content("text")
    sent = message.as_bytes(policy=email.policy.SMTP)
    require_same(message, sent)
    with pytest.raises(MessageRefusedError, match="would have headers, parts or recipients"):
        require_same(message, added + sent)


# --- the server


async def test_starttls_and_a_login(server_tls: ssl.SSLContext, trusted: None):
    async with serving(tls_context=server_tls, authenticator=authenticate, auth_required=True) as box:
        smtp = {"host": "localhost", "tls": "starttls", "username": "ada", "password": "hunter22!"}
        await send(letter(box, smtp))
    assert (box.encrypted, box.authenticated) == ([True], [True])


async def test_tls_from_the_start(server_tls: ssl.SSLContext, trusted: None):
    async with serving(server_tls, authenticator=authenticate, auth_require_tls=False) as box:
        smtp = {"host": "localhost", "tls": "tls", "username": "ada", "password": "hunter22!"}
        await send(letter(box, smtp))
    assert box.authenticated == [True]


async def test_a_login_without_tls_where_that_is_said():
    async with serving(authenticator=authenticate, auth_require_tls=False) as box:
        await send(letter(box, {"username": "ada", "password": "hunter22!"}))
    assert (box.encrypted, box.authenticated) == ([False], [True])


async def test_starttls_is_the_default_and_never_left_out(trusted: None):
    async with serving() as box:
        config = letter(box)
        del config["smtp"]["tls"]
        code, message = await refusal(config)
    assert (code, "STARTTLS" in message) == ("mail_refused", True)
    assert not box.envelopes


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_certificate_has_to_be_trusted_and_for_the_host(
    server_tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, host: str
):
    if host == "127.0.0.1":  # trusted, but for `localhost`
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(tls_context=server_tls) as box:
        code, message = await refusal(letter(box, {"host": host, "tls": "starttls"}))
    assert (code, "certificate" in message.lower()) == ("mail_refused", True)
    assert not box.envelopes


async def test_a_wrong_password_is_reported_without_it():
    async with serving(authenticator=authenticate, auth_require_tls=False) as box:
        code, message = await refusal(letter(box, {"username": "ada", "password": "wrong-one"}))
    assert code == "mail_refused"
    assert "535" in message
    assert "wrong-one" not in message


async def test_those_who_are_refused_are_named():
    async with serving() as box:
        box.refused = {"cy@example.com": "550 no such user"}
        answer = await send(letter(box, to=["bo@example.com", "cy@example.com"]))
    assert answer["accepted"] == ["bo@example.com"]
    assert answer["refused"] == {"cy@example.com": "550 no such user"}


@pytest.mark.parametrize(
    ("reply", "code"), [("550 no such user", "mail_refused"), ("451 try again later", "mail_server_error")]
)
async def test_a_message_for_nobody_fails_for_good_or_for_now(reply: str, code: str):
    async with serving() as box:
        box.refused = {"bo@example.com": reply}
        assert (await refusal(letter(box))) == (code, f"the mail server: bo@example.com: {reply}")


@pytest.mark.parametrize(("reply", "code"), [("554 spam", "mail_refused"), ("452 full", "mail_server_error")])
async def test_a_message_that_is_not_taken(reply: str, code: str):
    async with serving() as box:
        box.data_reply = reply
        assert (await refusal(letter(box)))[0] == code


async def test_a_server_that_says_nothing_is_left_in_time():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config = letter(Mailbox(port=silent.getsockname()[1]), timeout=0.3)
        code, message = await asyncio.wait_for(refusal(config), 3)
    assert (code, "0.3 s" in message) == ("node_timeout", True)


async def test_a_server_that_is_not_there_is_worth_another_attempt():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert (await refusal(letter(Mailbox(port=unused.getsockname()[1]))))[0] == "unreachable"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0x7f.1", "", "a b"])
async def test_a_host_that_is_not_public_is_refused(host: str):
    async with serving() as box:
        config = letter(box, {"host": host}, allow_private_networks=host in ("169.254.169.254", "", "a b"))
        assert (await refusal(config))[0] == "ssrf_blocked"
    assert not box.envelopes


def test_the_config_is_checked_beforehand():
    smtp = {"host": "h"}
    base = {"smtp": smtp, "from": "a@b.c", "to": "a@b.c", "subject": "s"}
    for wrong in ({"smtp": {**smtp, "username": "u"}}, {"smtp": {**smtp, "tls": "maybe"}}, {"too": "x"}):
        with pytest.raises(ValueError, match="EmailConfig"):
            EmailNode.Config.model_validate({**base, **wrong})

"""Where requests may go: the corpus as far as a URL alone decides, the table of addresses, the policy."""

from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.net.addresses import (
    NetworkPolicy,
    SSRFError,
    check_address,
    check_url,
    current_policy,
    is_denied,
    policy_in_force,
)
from tests.support import corpora

PUBLIC_ONLY = NetworkPolicy()


def by_url(case: corpora.Case) -> bool:
    """Whether nothing but the URL decides."""
    return corpora.is_text(case) and "dns" not in case and not isinstance(case.get("policy"), dict)


@corpora.each("ssrf", by_url)
def test_a_url_is_judged_without_a_look_up(case: corpora.Case):
    try:
        target = check_url(corpora.text(case), PUBLIC_ONLY)
    except SSRFError:
        assert case["expect"] == "block"
        return
    assert case["expect"] == "allow" or target.address is None  # a name like others: its addresses decide


@corpora.each("ssrf", lambda case: by_url(case) and case["expect"] == "block")
def test_no_loosening_makes_a_malformed_url_good(case: corpora.Case):
    """What `allow_private_networks` lets through is a well-formed URL of a private address, never a trick."""
    url = corpora.text(case)
    try:
        target = check_url(url, NetworkPolicy(allow_private_networks=True))
    except SSRFError:
        return
    host = urlsplit(url).hostname
    assert host is not None
    assert target.host == (host if target.address is None else str(ip_address(host)))


@pytest.mark.parametrize(
    "url",
    [
        "http://[fe80::1%25eth0]/", "http://a..b/", "http://ex%61mple.com/", "http://localhost./", "http://1.1.1.1:0/",
        "http://1.1.1.1:65536/", "http://0/", "http://0x/", "http://1.2.3.4.5/", "http://exa mple.com/", "http://①②⑦.0.0.1/",
        "http://127。0。0。1/", "http://１２７.0.0.1/", "//1.1.1.1/", "http:/1.1.1.1/", "", " http://1.1.1.1/", "http://1.1.1.1\r\n/",
        "http://user@1.1.1.1/", "http://:80/", "http://1.1.1.1:/", "http://[1.1.1.1]/", "http://[::1]x/", "http://-a.example/",
        "http://" + "a" * 64 + ".example/", "http://" + "a." * 127 + "example/", "http://1.1.1.1/" + "a" * 8192,
        "http://[::ffff:0:127.0.0.1]/", "http://[v1.fe80::a]/", "http://[fe80::1%eth0]/", "http://[[::1]]/", "http://[]/",
        "http://127.0.0.01/", "http://00000177.0.0.1/", "http://0X7F000001/", "http://18446744073709551617/",
        "http://1.1.1.1:８０/", "http://١٢٧.0.0.1/", "http://ⓛocalhost/", "http://loc\u00adalhost/",
        "http:/\\127.0.0.1/",
        "http://%31%32%37.0.0.1/", "http://127.0.0.1%00.example.com/", "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
        "http://metadata/", "http://METADATA.google.internal./", "http://metadata.goog/", "http://instance-data/",
        "http://\ud800.example/", "http://example.com\u2028/", "javascript://1.1.1.1/%0a", "ws://1.1.1.1/",
    ],
)  # fmt: skip
def test_what_is_not_plainly_a_public_url_is_refused(url: str):
    with pytest.raises(SSRFError):
        check_url(url, PUBLIC_ONLY)


def test_a_metadata_service_is_named_only_where_the_operator_names_it():
    url = "http://metadata.google.internal/"
    with pytest.raises(SSRFError, match="metadata"):
        check_url(url, NetworkPolicy(allow_private_networks=True))
    policy = NetworkPolicy.of(["metadata.google.internal"])
    assert check_url(url, policy).address is None
    with pytest.raises(SSRFError, match="never allowed"):
        check_address(ip_address("169.254.169.254"), "metadata.google.internal", policy)


@pytest.mark.parametrize("port", [22, 23, 25, 110, 143, 445, 3306, 5432, 6379, 9042, 11211, 27017, 2375])
def test_ports_of_other_protocols_are_refused(port: int):
    with pytest.raises(SSRFError, match=f"port {port}"):
        check_url(f"http://1.1.1.1:{port}/", NetworkPolicy(allow_private_networks=True))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://Example.COM/a?b=c#d", "example.com", 443),
        ("http://example.com:8080", "example.com", 8080),
        ("http://münchen.example/", "xn--mnchen-3ya.example", 80),
        ("http://[2606:4700::1111]:8443/", "2606:4700::1111", 8443),
        ("http://under_score.example./", "under_score.example.", 80),
        ("http://example.com/a b?q=ü", "example.com", 80),
    ],
)
def test_ordinary_urls_pass(url: str, host: str, port: int):
    target = check_url(url, PUBLIC_ONLY)
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0", "10.255.255.255", "100.64.0.1", "127.255.0.1", "172.16.0.1", "192.0.0.192", "192.88.99.1", "198.19.0.1",
     "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "::", "::1", "::ffff:8.8.8.8", "::8.8.8.8",
     "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
     "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fe80::1", "fec0::1", "ff02::1", "4000::1"],
)  # fmt: skip
def test_special_purpose_addresses_are_denied(text: str):
    assert is_denied(ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.1",
     "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.0",
     "192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700::1", "2a00::1",
     "2001:4860:4860::8888"],
)  # fmt: skip
def test_their_neighbours_are_not(text: str):
    assert not is_denied(ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254",
     "224.0.0.1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "255.255.255.255",
     "ff02::1"],
)  # fmt: skip
def test_metadata_and_multicast_are_above_every_allow_list(text: str):
    policy = NetworkPolicy.of(["meta.example", "0.0.0.0/0", "::/0"]).for_request(allow_private_networks=True)
    with pytest.raises(SSRFError, match="never allowed"):
        check_address(ip_address(text), "meta.example", policy)


def test_an_allow_list_opens_names_and_networks_and_nothing_else():
    policy = NetworkPolicy.of(["intranet.example", "*.corp.example", "10.2.0.0/16", "fd12::/32"])
    opened = [("intranet.example", "10.9.9.9"), ("a.b.corp.example", "192.168.1.1"), ("x.example", "10.2.3.4")]
    for host, address in [*opened, ("x.example", "fd12::1")]:
        check_address(ip_address(address), host, policy)
    closed = [("corp.example", "10.9.9.9"), ("evilintranet.example", "10.9.9.9"), ("x.example", "10.3.0.1")]
    for host, address in [*closed, ("intranet.example.evil.example", "127.0.0.1")]:
        with pytest.raises(SSRFError):
            check_address(ip_address(address), host, policy)


@pytest.mark.parametrize("entry", ["", "http://a/", "10.0.0.0/33", "a b", "*.", "*"])
def test_an_allow_list_of_nonsense_is_refused(entry: str):
    with pytest.raises(ValueError, match="not a host name"):
        NetworkPolicy.of([entry])


def test_a_workflow_opens_private_networks_only_where_it_may():
    assert NetworkPolicy().for_request(allow_private_networks=True).allow_private_networks
    tenant = NetworkPolicy(permit_private_networks=False)
    assert not tenant.for_request(allow_private_networks=True).allow_private_networks


def test_the_message_names_what_was_refused():
    with pytest.raises(SSRFError, match="localhost"):
        check_url("http://localhost:8000/", PUBLIC_ONLY)
    with pytest.raises(SSRFError, match=r"private/internal.*10\.0\.0\.5"):
        check_url("http://10.0.0.5/", PUBLIC_ONLY)
    with pytest.raises(SSRFError, match=r"private/internal.*db\.example resolves to 10\.0\.0\.5"):
        check_address(ip_address("10.0.0.5"), "db.example", PUBLIC_ONLY)


def test_the_error_is_a_value_error_that_is_not_retried():
    assert issubclass(SSRFError, ValueError)
    assert issubclass(SSRFError, NodeError)
    assert issubclass(SSRFError, NonRetryableError)


@pytest.mark.parametrize(("permit", "way"), [(True, "`allow_private_networks: true`"), (False, "has no effect here")])
@pytest.mark.parametrize("url", ["http://10.0.0.5/", "http://localhost/"])
def test_the_refusal_names_the_settings_that_open_the_address(url: str, permit: bool, way: str):
    with pytest.raises(SSRFError, match="PYFLOW_ALLOWED_NETWORKS") as refused:
        check_url(url, NetworkPolicy(permit_private_networks=permit))
    assert way in str(refused.value)


def test_without_a_run_of_the_platform_the_same_variables_decide(monkeypatch):
    monkeypatch.setenv("PYFLOW_ALLOWED_NETWORKS", "intranet.example, 10.2.0.0/16")
    listed = NetworkPolicy.of(["intranet.example", "10.2.0.0/16"])
    assert policy_in_force() == listed
    monkeypatch.setenv("PYFLOW_PERMIT_PRIVATE_NETWORKS", "false")
    assert policy_in_force() == replace(listed, permit_private_networks=False)
    monkeypatch.setenv("PYFLOW_ALLOWED_NETWORKS", "a b")
    with pytest.raises(SSRFError, match="PYFLOW_ALLOWED_NETWORKS cannot be read"):
        policy_in_force()
    token = current_policy.set(PUBLIC_ONLY)
    assert policy_in_force() is PUBLIC_ONLY
    current_policy.reset(token)

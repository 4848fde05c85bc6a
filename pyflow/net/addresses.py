"""Checks the targets of outgoing requests: strict URL parsing and a table of addresses that are not public.

Python's ``ipaddress.is_global`` is not the judge: it depends on the Python version and, on 3.11, passes NAT64 and 6to4
addresses that carry loopback, mapped CGNAT addresses and 192.0.0.192. Sources: the IANA special-purpose registries
(RFC 6890 and its updates), the URL Standard for what counts as a number in a host, the Fetch Standard's bad ports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import ClassVar

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: What an operator says in the environment, for the platform, the command line and the library alike.
ALLOWED = "PYFLOW_ALLOWED_NETWORKS"
PERMIT = "PYFLOW_PERMIT_PRIVATE_NETWORKS"
MAX_URL = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

#: Instance metadata and credential services. No allow-list opens these. All of IPv4 link-local is among them: besides
#: the well-known .169.254, .170.2 and .170.23, providers put theirs at other addresses of that range.
_METADATA = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # RFC 3927; AWS, Azure, GCP, OpenStack, ECS, EKS, Tencent
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's wire server, a public address by its looks
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::/32",  # GCP
        "fe80::a9fe:a9fe/128",  # OpenStack
    )
)
_NEVER = tuple(
    ip_network(text)
    for text in (
        "224.0.0.0/4",  # multicast, RFC 5771
        "255.255.255.255/32",  # broadcast
        "ff00::/8",  # multicast, RFC 4291
    )
)
_DENIED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network"; Linux connects 0.0.0.0 to loopback
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # CGNAT, RFC 6598
        "127.0.0.0/8",
        "172.16.0.0/12",  # RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # RFC 1918
        "198.18.0.0/15",  # benchmarking, RFC 2544
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "240.0.0.0/4",  # reserved
    )
)
#: Everything else in IPv6 is not global unicast: ::/8 with loopback, mapped and compatible addresses, NAT64
#: (64:ff9b::/96, 64:ff9b:1::/48), discard, SRv6 (5f00::/16), ULA, link-local, site-local.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_DENIED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation, RFC 9637
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_SIX_TO_FOUR = IPv6Network("2002::/16")

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"})

#: Ports where something other than HTTP listens (https://fetch.spec.whatwg.org/#port-blocking, and databases, caches,
#: queues and container daemons): a request there can only be an attempt to speak another protocol.
_BAD_PORTS = frozenset(
    (1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
     111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526,
     530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1080, 1194, 1433, 1521, 1719,
     1720, 1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3268, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061,
     5432, 5671, 5672, 5900, 6000, 6379, 6380, 6432, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 8883, 9042, 9092,
     10080, 10250, 11211, 26379, 27017, 27018, 27019, 28015)
)  # fmt: skip
#: What metadata services are called. Their addresses are refused anyway; a name needs no look-up to be refused.
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "instance-data"}
)

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:%\s]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class SSRFError(NonRetryableError, ValueError):
    """The request would go where workflows may not send requests. Another attempt will not change that."""

    code: ClassVar[str] = "ssrf_blocked"


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Network policy: the targets that an operator allows beyond the public internet.

    ``allow_hosts``: names (``intranet.example``, or ``*.corp.example`` for all below) whose addresses may be private.
    ``allow_networks``: CIDRs (``10.2.0.0/16``) that may be reached under any name. ``allow_private_networks``: all
    private addresses. ``permit_private_networks``: whether a workflow may ask for that itself. Metadata services and
    multicast stay closed whatever is set.
    """

    allow_hosts: frozenset[str] = frozenset()
    allow_networks: tuple[Network, ...] = ()
    allow_private_networks: bool = False
    permit_private_networks: bool = True

    @classmethod
    def of(cls, allowed: Iterable[str], *, permit_private_networks: bool = True) -> NetworkPolicy:
        """From one list of names and CIDRs, as an operator writes it; ``ValueError`` for what is neither."""
        hosts: set[str] = set()
        networks: list[Network] = []
        for entry in allowed:
            entry = entry.strip().lower().rstrip(".")
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if not _NAME.fullmatch(entry.removeprefix("*.")):
                    raise ValueError(f"not a host name, '*.' and a name, or a CIDR: {entry!r}") from None
                hosts.add(entry)
        return cls(frozenset(hosts), tuple(networks), permit_private_networks=permit_private_networks)

    def for_request(self, *, allow_private_networks: bool) -> NetworkPolicy:
        """The policy of one request, whose author may have asked for private networks."""
        if allow_private_networks and self.permit_private_networks and not self.allow_private_networks:
            return replace(self, allow_private_networks=True)
        return self

    def names(self, host: str) -> bool:
        """Return whether the allow-list names this host."""
        if not self.allow_hosts:
            return False
        host = host.rstrip(".")
        parents = host.split(".")[1:]
        return host in self.allow_hosts or any(
            "*." + ".".join(parents[index:]) in self.allow_hosts for index in range(len(parents))
        )


#: The policy of the run that this code works for. The platform sets it for each run; elsewhere there is none.
current_policy: ContextVar[NetworkPolicy | None] = ContextVar("pyflow_network_policy", default=None)


def policy_in_force() -> NetworkPolicy:
    """The policy of the run that this code works for; without one, what the environment of the process says.

    ``PYFLOW_ALLOWED_NETWORKS`` and ``PYFLOW_PERMIT_PRIVATE_NETWORKS`` mean what they mean on the platform, but that a
    workflow may open private networks itself unless the latter forbids it. Raises ``SSRFError`` for nonsense.
    """
    policy = current_policy.get()
    if policy is not None:
        return policy
    permit = os.environ.get(PERMIT, "true").strip().lower() not in {"0", "false", "no", "off"}
    return _of_environment(os.environ.get(ALLOWED, ""), permit)


@lru_cache(maxsize=8)
def _of_environment(allowed: str, permit: bool) -> NetworkPolicy:
    entries = [entry.strip() for entry in allowed.split(",") if entry.strip()]
    try:
        return NetworkPolicy.of(entries, permit_private_networks=permit)
    except ValueError as error:
        raise SSRFError(f"Blocked: {ALLOWED} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed: ``host`` is lower-case ASCII without brackets, ``address`` is set when it is a literal."""

    url: str
    scheme: str
    host: str
    port: int
    address: Address | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host, port: equal for two URLs of one origin (RFC 6454)."""
        return self.scheme, self.host, self.port


def check_url(url: str, policy: NetworkPolicy) -> Target:
    """Parse a URL strictly and refuse what can be refused without a look-up.

    Host names are checked again, by the addresses they resolve to, when the connection is made. Raises ``SSRFError``.
    """
    if not isinstance(url, str):
        raise SSRFError(f"Blocked: a URL is text, not {type(url).__name__}")
    if len(url) > MAX_URL:
        raise SSRFError(f"Blocked: the URL is longer than {MAX_URL:,} characters")
    if _FORBIDDEN.search(url):
        raise SSRFError("Blocked: the URL holds a control character or a backslash")
    match = _URL.fullmatch(url)
    if match is None:
        raise SSRFError(f"Blocked: not an absolute http:// or https:// URL: {show(url, 200)}")
    scheme = match["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise SSRFError(f"Blocked: only http and https are allowed, not {scheme!r}")
    if "@" in match["authority"]:
        raise SSRFError("Blocked: a URL with a user name or password in it; send credentials in a header")
    parts = _AUTHORITY.fullmatch(match["authority"])
    if parts is None:
        raise SSRFError(f"Blocked: no valid host in the URL: {show(match['authority'], 200)}")
    host = _ascii_host(parts["host"])
    port = int(parts["port"]) if parts["port"] else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535 or port in _BAD_PORTS:
        raise SSRFError(f"Blocked: port {port} is not one for HTTP")
    address = _literal(host)
    if address is not None:
        host = str(address)
        check_address(address, host, policy)
    elif _is_local(host) and not policy.allow_private_networks and not policy.names(host):
        raise SSRFError(f"Requests to localhost are blocked: {host}; {_what_opens(policy)}")
    elif host.rstrip(".") in _METADATA_NAMES and not policy.names(host):
        raise SSRFError(f"Requests to private/internal addresses are blocked: {host} is a metadata service")
    shown = f"[{host}]" if isinstance(address, IPv6Address) else host
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    return Target(f"{scheme}://{shown}{suffix}{match['rest']}", scheme, host, port, address)


def check_address(address: Address, host: str, policy: NetworkPolicy) -> None:
    """Refuse an address that is not public and not opened by the policy. Raises ``SSRFError``."""
    reached = [address, *embedded(address)]
    where = f"{host} resolves to {address}" if host != str(address) else host
    if any(_within(one, _METADATA) or _within(one, _NEVER) for one in reached):
        raise SSRFError(f"Requests to private/internal addresses are blocked: {where} (never allowed)")
    if not is_denied(address):
        return
    if policy.allow_private_networks or policy.names(host):
        return
    if any(_within(one, policy.allow_networks) for one in reached):
        return
    raise SSRFError(f"Requests to private/internal addresses are blocked: {where}; {_what_opens(policy)}")


def _what_opens(policy: NetworkPolicy) -> str:
    """Return the setting that would have allowed a private address."""
    if policy.permit_private_networks:
        return f"`allow_private_networks: true` in the node's config opens it, or {ALLOWED} in the environment"
    return f"the operator opens it by {ALLOWED}; `allow_private_networks` has no effect here ({PERMIT})"


def is_denied(address: Address) -> bool:
    """Return whether the address is something other than a public unicast address."""
    if isinstance(address, IPv4Address):
        return _within(address, _DENIED_V4) or _within(address, _METADATA) or _within(address, _NEVER)
    return address not in _GLOBAL_UNICAST or _within(address, _DENIED_V6)


def embedded(address: Address) -> list[IPv4Address]:
    """The IPv4 address that an IPv6 address carries for translators and tunnels, if it carries one."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    if any(address in network for network in (_MAPPED, _TRANSLATED, _COMPATIBLE, *_NAT64)):
        return [IPv4Address(number & 0xFFFFFFFF)]
    if address in _SIX_TO_FOUR:
        return [IPv4Address((number >> 80) & 0xFFFFFFFF)]
    if address.teredo is not None:
        return list(address.teredo)
    return []


def parse_address(text: str) -> Address:
    """An address as the resolver gives it, without the zone of a scoped one (``fe80::1%eth0``)."""
    return ip_address(text.partition("%")[0])


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _ascii_host(host: str) -> str:
    """The host in lower-case ASCII. A host in other scripts is encoded by IDNA 2008, which maps no look-alikes."""
    if host.isascii():
        return host.lower()
    import idna  # noqa: PLC0415 - its tables take longer to load than a run; nearly all hosts are ASCII

    if not set("。．｡").isdisjoint(host):
        raise SSRFError(f"Blocked: not a host name: {show(host, 200)}")
    try:
        return idna.encode(host.lower()).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise SSRFError(f"Blocked: not a host name: {show(host, 200)}") from None


def _literal(host: str) -> Address | None:
    """The address that a host is written as; ``None`` for a name.

    ``getaddrinfo`` takes 2130706433, 0x7f.1 and 0177.0.0.1 for addresses. Only the plain form is accepted, and by the
    rule of the URL Standard whatever ends in a number has to be it.
    """
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1])
        except ValueError:
            raise SSRFError(f"Blocked: not an IPv6 address: {host}") from None
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise SSRFError(f"Blocked: not a host name: {show(host, 200)}")
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise SSRFError(f"Requests to private/internal addresses are blocked: {host} is an unusual spelling") from None


def _is_local(host: str) -> bool:
    name = host.rstrip(".")
    return name in _LOCAL_NAMES or name.endswith(".localhost")

"""Who the client is when proxies stand before us, and what we say of it to those behind us.

Promise: nothing that an untrusted peer claims is believed or passed on as ours (SEMANTICS 65);
Forwarded (RFC 7239) and the X-Forwarded-* fields always agree.
Must never know: routes, workers. Next: `interfaces/http.py` and `variables.py`, the users.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from protocols.fields import all_values, first
from protocols.http1 import encode_lines
from protocols.memory import Memory
from protocols.message import FieldLine, Peer, Request

if TYPE_CHECKING:
    from gateway.exchange import Exchange

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
CLIENTS: Final = 4096
"""Of so many it is remembered what is said of them."""


class Forwarding:
    """The knowledge of which peers are our own proxies (`server.trusted_proxies`)."""

    def __init__(self, trusted: Sequence[Network], *, unix: bool = False) -> None:
        """`unix`: whether who comes over a unix socket is one of them (only whom its mode lets in can)."""
        self.networks = tuple(trusted)
        self.unix = unix
        self.believes = bool(trusted) or unix
        """Whether there is anybody whose word counts."""
        self._trusted: Memory[bytes, bool] = Memory(CLIENTS)
        self._lines: Memory[tuple[bytes, bool, bytes], bytes] = Memory(CLIENTS)

    def trusts(self, peer: Peer) -> bool:
        return self.believes and self._trusts_address(peer.remote_addr)

    def _trusts_address(self, text: bytes) -> bool:
        if not text:
            return self.unix
        known = self._trusted.known.get(text)
        if known is None:
            try:
                address = ipaddress.ip_address(text.decode("ascii"))
            except ValueError:
                return False
            known = any(address in network for network in self.networks)
            self._trusted.note(text, known)
        return known

    def effective(self, peer: Peer, request: Request) -> Peer:
        """The client as a trusted proxy tells it: the last address in the chain that is not our own."""
        if not self.trusts(peer):
            return peer
        addr, port = peer.remote_addr, peer.remote_port
        for address in reversed(_chain(request)):
            addr, port = address, b""
            if not self._trusts_address(address):
                break
        proto = first(request.fields, b"x-forwarded-proto") or _parameter(request, b"proto")
        https = proto.lower() == b"https" if proto else peer.https
        return Peer(addr, port, peer.server_addr, b"443" if https and not peer.https else peer.server_port, https)

    def lines(self, exchange: Exchange) -> bytes:
        """What an origin server is told of the client, as lines with their CRLF."""
        direct = exchange.client.peer
        if self.trusts(direct):
            lines = encode_lines(self._trusted_lines(exchange, direct))
        else:
            key = (direct.remote_addr, direct.https, exchange.request.host)
            known = self._lines.known.get(key)
            if known is None:
                addr = direct.remote_addr
                scheme = b"https" if direct.https else b"http"
                known = encode_lines(_lines(addr or b"unknown", _node(addr), scheme, exchange.request.host))
                self._lines.note(key, known)
            lines = known
        return b"%bX-Request-Id: %b\r\n" % (lines, exchange.id)

    def _trusted_lines(self, exchange: Exchange, direct: Peer) -> list[FieldLine]:
        request = exchange.request
        chain = [*_chain(request), direct.remote_addr]
        scheme = b"https" if exchange.peer.https else b"http"
        host = first(request.fields, b"x-forwarded-host") or _parameter(request, b"host") or request.host
        nodes = b", for=".join(map(_node, chain))
        return _lines(b", ".join(chain), nodes, scheme, host)


def _lines(chain: bytes, node: bytes, scheme: bytes, host: bytes) -> list[FieldLine]:
    forwarded = b"for=" + node + b";proto=" + scheme
    lines = [(b"X-Forwarded-For", chain), (b"X-Forwarded-Proto", scheme)]
    if host:
        lines.append((b"X-Forwarded-Host", host))
        forwarded += b';host="' + host + b'"'
    lines.append((b"Forwarded", forwarded))
    return lines


def _node(address: bytes) -> bytes:
    """An address as RFC 7239 6 writes it: IPv6 in brackets and quotes."""
    if not address:
        return b"unknown"
    return b'"[' + address + b']"' if b":" in address else address


def _chain(request: Request) -> list[bytes]:
    """The addresses that proxies before us have noted, farthest first; what is no address ends it."""
    values = all_values(request.fields, b"x-forwarded-for")
    if values:
        names = b",".join(values).split(b",")
    else:
        elements = b",".join(all_values(request.fields, b"forwarded")).split(b",")
        names = [_element(element, b"for") for element in elements if element.strip()]
    chain: list[bytes] = []
    for name in reversed(names[-64:]):
        address = _address(name)
        if not address:
            break
        chain.append(address)
    chain.reverse()
    return chain


def _address(name: bytes) -> bytes:
    """A node without quotes, brackets and port; b"" if it is no IP address."""
    text = name.strip().strip(b'"')
    if text.startswith(b"["):
        text = text[1:].partition(b"]")[0]
    elif text.count(b":") == 1:
        text = text.partition(b":")[0]
    try:
        return str(ipaddress.ip_address(text.decode("ascii"))).encode()
    except ValueError:
        return b""


def _element(element: bytes, name: bytes) -> bytes:
    for pair in element.split(b";"):
        key, _, value = pair.strip().partition(b"=")
        if key.lower() == name:
            return value.strip(b'"')
    return b""


def _parameter(request: Request, name: bytes) -> bytes:
    """A parameter of the first Forwarded element: what the proxy nearest to the client saw."""
    value = first(request.fields, b"forwarded")
    return _element(value.split(b",")[0], name) if value else b""

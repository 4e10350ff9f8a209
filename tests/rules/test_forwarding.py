"""Who the client is, and what those behind us are told of it (SEMANTICS 65, 70; RFC 7239)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.forwarding import Forwarding
from protocols.message import FieldLine, Peer, Request
from tests.rules.conftest import Talks
from tests.rules.playbook import Talk, route

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
PROXY = Peer(b"10.0.0.1", b"5000", b"10.0.0.2", b"80", https=False)
STRANGER = Peer(b"192.0.2.1", b"5000", b"10.0.0.2", b"80", https=False)


def effective(*fields: FieldLine, peer: Peer = PROXY) -> Peer:
    return Forwarding(TRUSTED).effective(peer, Request(b"GET", b"/", fields))


def addr(*fields: FieldLine, peer: Peer = PROXY) -> str:
    return effective(*fields, peer=peer).remote_addr.decode()


def xff(value: bytes) -> FieldLine:
    return (b"X-Forwarded-For", value)


def test_a_stranger_is_believed_nothing() -> None:
    fields = (xff(b"1.2.3.4"), (b"Forwarded", b"for=1.2.3.4;proto=https"), (b"X-Forwarded-Proto", b"https"))
    assert effective(*fields, peer=STRANGER) is STRANGER
    assert Forwarding(()).effective(PROXY, Request(b"GET", b"/", fields)) is PROXY


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"1.2.3.4", "1.2.3.4"),
        (b"6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (b"6.6.6.6, 1.2.3.4, 10.0.0.9", "1.2.3.4"),
        (b"10.0.0.8, 10.0.0.9", "10.0.0.8"),
        (b"1.2.3.4:5678", "1.2.3.4"),
        (b"[2001:db8::1]:5678", "2001:db8::1"),
        (b"2001:DB8::0:1", "2001:db8::1"),
        (b"6.6.6.6, nonsense", "10.0.0.1"),
        (b"1.2.3.4, , 10.0.0.9", "10.0.0.9"),
        (b"", "10.0.0.1"),
        (b"1.2.3.4,", "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_not_our_own(value: bytes, client: str) -> None:
    assert addr(xff(value)) == client


def test_several_lines_are_one_list() -> None:
    assert addr(xff(b"6.6.6.6"), xff(b"1.2.3.4, 10.0.0.9")) == "1.2.3.4"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=1.2.3.4", "1.2.3.4"),
        (b'For="[2001:db8::1]:4711";proto=https', "2001:db8::1"),
        (b"for=6.6.6.6, for=1.2.3.4;by=10.0.0.9, for=10.0.0.9", "1.2.3.4"),
        (b"for=unknown", "10.0.0.1"),
        (b"for=_hidden, for=10.0.0.9", "10.0.0.9"),
        (b"proto=https", "10.0.0.1"),
    ],
)
def test_forwarded_says_the_same(value: bytes, client: str) -> None:
    assert addr((b"Forwarded", value)) == client


def test_https_is_what_the_proxy_says() -> None:
    peer = effective(xff(b"1.2.3.4"), (b"X-Forwarded-Proto", b"HTTPS"))
    assert (peer.https, peer.server_port, peer.remote_port) == (True, b"443", b"")
    assert effective((b"Forwarded", b"for=1.2.3.4;proto=https")).https
    assert not effective(xff(b"1.2.3.4"), (b"X-Forwarded-Proto", b"http")).https


addresses = st.one_of(st.ip_addresses().map(lambda ip: str(ip).encode()), st.sampled_from([b"10.1.1.1", b"fd00::1"]))
junk = st.text(' \t,;="[]:.abcdef0123456789', max_size=12).map(str.encode)


@settings(max_examples=200)
@given(st.lists(st.one_of(addresses, junk), max_size=5), st.sampled_from([b"X-Forwarded-For", b"Forwarded"]))
def test_whatever_it_says_the_client_is_an_address(names: list[bytes], field: bytes) -> None:
    separator = b", for=" if field == b"Forwarded" else b", "
    found = addr((field, b"for=" * (field == b"Forwarded") + separator.join(names)))
    ipaddress.ip_address(found)


@settings(max_examples=100)
@given(st.lists(addresses, max_size=4), addresses)
def test_what_a_client_claims_of_itself_is_never_believed(claimed: list[bytes], client: bytes) -> None:
    """A proxy of ours appends the address that it sees: what stands before that is the client's own invention."""
    if any(ipaddress.ip_address(client.decode()) in network for network in TRUSTED):
        return
    assert addr(xff(b", ".join([*claimed, client]))).encode() == client


# ---------------------------------------------------------------------- what those behind us are told


def lines(one: Talk) -> dict[str, str]:
    head = one.worker.take().partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in head)


def test_a_stranger_is_told_of_in_our_own_words(talk: Talks) -> None:
    one = talk(route("http"))
    one.client.get("/", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forwarded-Host: evil", "X-Real-Ip: 1.2.3.4")
    told = lines(one)
    assert told["X-Forwarded-For"] == "192.0.2.1"
    assert told["X-Forwarded-Host"] == "x"
    assert told["Forwarded"] == 'for=192.0.2.1;proto=http;host="x"'


def test_a_trusted_chain_goes_on(talk: Talks) -> None:
    one = talk(route("http"), trusted=(ipaddress.ip_network("192.0.2.1/32"),))
    one.client.get("/", "X-Forwarded-For: 2001:db8::1", "X-Forwarded-Proto: https", "X-Forwarded-Host: public")
    told = lines(one)
    assert told["X-Forwarded-For"] == "2001:db8::1, 192.0.2.1"
    assert told["X-Forwarded-Host"] == "public"
    assert told["Forwarded"] == 'for="[2001:db8::1]", for=192.0.2.1;proto=https;host="public"'


def test_scripts_are_told_of_the_client_and_not_of_the_proxy(talk: Talks) -> None:
    one = talk(route("cgi"), trusted=(ipaddress.ip_network("192.0.2.1/32"),))
    one.client.get("/", "X-Forwarded-For: 2001:db8::1", "X-Forwarded-Proto: https")
    environment = one.script.environment
    assert environment[b"REMOTE_ADDR"] == b"2001:db8::1"
    assert b"REMOTE_PORT" not in environment
    assert (environment[b"HTTPS"], environment[b"SERVER_PORT"]) == (b"on", b"443")


# ---------------------------------------------------------------------- exchange ids (70)


def test_ids_of_our_own_differ(talk: Talks) -> None:
    one = talk(route("cgi"))
    for _ in range(3):
        one.connect().get("/", "X-Request-Id: mine")
    ids = {script.environment[b"EXCHANGE_ID"] for script in one.scripts}
    assert len(ids) == 3
    assert b"mine" not in ids


@pytest.mark.parametrize(
    ("given_id", "taken"), [("abc-1", True), ("a" * 129, False), ("a b", False), ("<x>", False), ("é", False)]
)
def test_an_id_of_a_trusted_proxy_is_taken_over_if_it_is_harmless(talk: Talks, given_id: str, taken: bool) -> None:
    one = talk(route("cgi"), trusted=(ipaddress.ip_network("192.0.2.1/32"),))
    one.client.get("/", f"X-Request-Id: {given_id}")
    assert (one.script.environment[b"EXCHANGE_ID"] == given_id.encode()) is taken

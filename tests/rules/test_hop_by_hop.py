"""What concerns one connection only, as conversations: Upgrade, TE, trailers, Max-Forwards, TRACE (SEMANTICS 60, 62)."""

from __future__ import annotations

import pytest

from tests.rules.conftest import Talks
from tests.rules.playbook import Talk, route

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.fixture
def http(talk: Talks) -> Talk:
    return talk(route("http"))


@pytest.fixture
def streaming(talk: Talks) -> Talk:
    return talk(route("http", request_buffering=False))


def lines(one: Talk) -> list[str]:
    """All lines of the head that the newest origin server has got."""
    return one.worker.take().partition(b"\r\n\r\n")[0].decode().split("\r\n")


def about_the_connection(one: Talk) -> list[str]:
    names = ("connection", "upgrade", "te", "trailer", "http2-settings")
    return [line for line in lines(one)[1:] if line.partition(":")[0].lower() in names]


# ---------------------------------------------------------------------- Upgrade (RFC 9110 7.8)


@pytest.mark.parametrize("protocol", ["websocket", "WebSocket", "h2c, websocket"])
def test_the_upgrade_to_a_websocket_is_passed_and_no_other(http: Talk, protocol: str) -> None:
    http.client.get("/ws", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: x")
    assert about_the_connection(http) == ["Connection: upgrade", "Upgrade: websocket"]


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "x-websocket", "foo"])
def test_what_would_be_a_tunnel_past_all_routes_is_not_passed(http: Talk, protocol: str) -> None:
    http.client.get("/ws", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: x")
    assert about_the_connection(http) == []
    http.worker >> SWITCH.replace(b"websocket", protocol.encode())
    assert http.client.answer().status == 502


@pytest.mark.parametrize("field", [b"Upgrade: h2c\r\n", b""])
def test_a_switch_to_what_nobody_asked_for_is_502(http: Talk, field: bytes) -> None:
    http.client.get("/ws", "Connection: Upgrade", "Upgrade: websocket")
    http.worker >> SWITCH.replace(b"Upgrade: websocket\r\n", field)
    assert http.client.answer().status == 502


def test_only_get_opens_a_websocket(http: Talk) -> None:
    """RFC 6455 4.1; with content under way it would be uncertain where the tunnel begins."""
    http.client.post("/ws", b"content", "Connection: Upgrade", "Upgrade: websocket")
    assert about_the_connection(http) == []


@pytest.mark.parametrize("versions", ["1.0 1.1", "1.1 1.0"])
def test_http_1_0_knows_no_upgrade_and_no_trailers_though_its_header_section_is_the_same(
    http: Talk, versions: str
) -> None:
    fields = ("Connection: Upgrade, TE", "Upgrade: websocket", "TE: trailers", f"X-Order: {versions}")
    for version in versions.split():
        client = http.connect()
        client.get("/ws", *fields, version=version)
        passed = ["TE: trailers", "Connection: TE, upgrade", "Upgrade: websocket"] if version == "1.1" else []
        assert about_the_connection(http) == passed


# ---------------------------------------------------------------------- trailers (RFC 9110 6.5, 10.1.4)


def test_that_a_client_takes_trailers_is_passed_on(http: Talk) -> None:
    http.client.get("/", "Connection: TE", "TE: gzip;q=0.5, trailers")
    assert about_the_connection(http) == ["TE: trailers", "Connection: TE"]


def test_no_other_te_is_passed_on(http: Talk) -> None:
    http.client.get("/", "Connection: TE", "TE: gzip")
    assert about_the_connection(http) == []


def test_trailers_of_content_that_streams_in_chunks_are_passed_on(streaming: Talk) -> None:
    streaming.client >> CHUNKED
    assert streaming.worker.take().endswith(b"\r\n\r\n5\r\nhello\r\n")
    streaming.client >> b"0\r\nDigest: x\r\n\r\n"
    streaming.worker << b"0\r\nDigest: x\r\n\r\n"
    streaming.worker >> OK
    assert streaming.client.answer().content == b"hello"


def test_trailers_wait_with_the_content_for_a_connection(streaming: Talk) -> None:
    streaming.connects = False
    streaming.client >> CHUNKED + b"0\r\nDigest: x\r\n\r\n"
    streaming.accept()
    assert streaming.worker.take().endswith(b"5\r\nhello\r\n0\r\nDigest: x\r\n\r\n")


@pytest.mark.parametrize(
    "line", [b"X-Forwarded-For: 6.6.6.6", b"Host: evil", b"Connection: close", b"Upgrade: h2c", b"Max-Forwards: 1",
             b"Authorization: x", b"Cookie: a=b", b"Content-Type: a/b", b"Trailer: x", b"X-Request-Id: mine"]
)  # fmt: skip
def test_what_may_not_come_after_the_content_is_not_passed_on_in_trailers(streaming: Talk, line: bytes) -> None:
    """A server that merges trailers into its fields would take them for ours (RFC 9110 6.5.1)."""
    streaming.client >> CHUNKED
    streaming.worker.take()
    streaming.client >> b"0\r\n" + line + b"\r\nDigest: x\r\n\r\n"
    streaming.worker << b"0\r\nDigest: x\r\n\r\n"


def test_content_that_was_kept_has_a_length_and_so_no_trailers(http: Talk) -> None:
    http.client >> CHUNKED + b"0\r\nDigest: x\r\n\r\n"
    assert http.worker.take().endswith(b"Content-Length: 5\r\n\r\nhello")


def test_what_may_not_come_after_the_content_of_a_response_is_dropped(http: Talk) -> None:
    http.client.get()
    http.worker >> b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    http.client.take()
    http.worker >> b"0\r\nSet-Cookie: a=b\r\nDigest: x\r\nConnection: close\r\n\r\n"
    http.client << b"0\r\nDigest: x\r\n\r\n"


# ---------------------------------------------------------------------- Max-Forwards and TRACE (RFC 9110 7.6.2, 9.3.8)


@pytest.mark.parametrize(
    ("value", "passed"), [("5", "4"), ("1", "0"), ("007", "6"), ("9" * 6000, "255"), ("300", "255")]
)
def test_options_goes_on_with_one_forward_less(http: Talk, value: str, passed: str) -> None:
    http.client.get("/a", f"Max-Forwards: {value}", method="OPTIONS")
    assert [line for line in lines(http) if line.startswith("Max")] == [f"Max-Forwards: {passed}"]


def test_options_with_no_forwards_left_is_answered_here(talk: Talks) -> None:
    one = talk(route("http", methods=frozenset((b"OPTIONS", b"GET"))))
    for _ in range(2):
        one.client.get("/a", "Max-Forwards: 0", method="OPTIONS")
        answer = one.client.answer()
        assert (answer.status, answer.content, answer.fields["allow"]) == (204, b"", "GET, OPTIONS")
    assert not one.workers
    assert one.accesses.statuses == [204, 204]


def test_content_that_comes_with_it_is_dropped(streaming: Talk) -> None:
    streaming.client.post("/a", b"content", "Max-Forwards: 0", method="OPTIONS")
    answer = streaming.client.answer()
    assert (answer.status, "allow" in answer.fields) == (204, False)  # what the server behind us allows is not known
    streaming.client.get()
    assert lines(streaming)[0] == "GET / HTTP/1.1"


@pytest.mark.parametrize("value", ["", "x", "-1", "+0", "1 0"])
def test_what_is_no_number_of_forwards_goes_no_further(http: Talk, value: str) -> None:
    http.client.get("/a", f"Max-Forwards: {value}", method="OPTIONS")
    assert not [line for line in lines(http) if line.startswith("Max")]


def test_other_methods_have_no_use_for_max_forwards(http: Talk) -> None:
    http.client.get("/a", "Max-Forwards: 0")
    assert "Max-Forwards: 0" in lines(http)
    http.worker >> OK
    http.client.answer()
    http.client.get("/a", "Max-Forwards: 0", method="OPTIONS")  # the same header section
    assert http.client.answer().status == 204


@pytest.mark.parametrize("interface", ["http", "fastcgi", "scgi", "cgi"])
def test_trace_is_refused_whatever_the_interface(talk: Talks, interface: str) -> None:
    """It would show a script in a browser what the client sent: cookies and credentials."""
    one = talk(route(interface))
    one.client.get("/a", "Cookie: secret", method="TRACE")
    answer = one.client.answer()
    assert answer.status == 501
    assert b"secret" not in answer.content
    assert not one.workers
    assert not one.scripts

"""The rules of an exchange with an origin server, as conversations (SEMANTICS 60 to 65, 67)."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.ends import Address
from gateway.upstreams.terms import Terms
from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LINGER, LOST, Sign, Talk, route

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def http(talk: Talks) -> Talk:
    return talk(route("http"))


def asked(one: Talk) -> str:
    """The request-line that the newest origin server has got; the rest is thrown away."""
    return one.worker.take().partition(b"\r\n")[0].decode()


def lines(one: Talk) -> list[str]:
    """All lines of the head that the newest origin server has got."""
    return one.worker.take().partition(b"\r\n\r\n")[0].decode().split("\r\n")


# ---------------------------------------------------------------------- requests


def test_a_request_and_its_answer(http: Talk) -> None:
    http.client.get("/a?b", "Accept: */*")
    assert asked(http) == "GET /a?b HTTP/1.1"
    http.worker >> OK
    answer = http.client.answer()
    assert (answer.status, answer.content) == (200, b"hello")


def test_what_an_origin_server_gets(http: Talk) -> None:
    http.client.get(
        "/a", "Connection: x-hop", "X-Hop: 1", "TE: gzip", "Accept: */*", "Proxy: evil", "X-Forwarded-For: 1.2.3.4"
    )
    got = lines(http)
    assert got[:3] == ["GET /a HTTP/1.1", "Host: x", "Accept: */*"]
    assert "X-Forwarded-For: 192.0.2.1" in got
    assert 'Forwarded: for=192.0.2.1;proto=http;host="x"' in got
    assert not [
        line for line in got if line.lower().startswith(("connection", "x-hop", "te:", "proxy", "x-forwarded-for: 1.2"))
    ]


def test_an_origin_server_sees_the_path_that_the_router_saw(http: Talk) -> None:
    http.client.get("//a/%2e%2e/b%20c?%2e")
    assert asked(http) == "GET /b%20c?%2e HTTP/1.1"


def test_the_host_of_an_absolute_form_target_wins(http: Talk) -> None:
    http.client.get("http://other/a")
    assert lines(http)[:2] == ["GET /a HTTP/1.1", "Host: other"]
    http.worker >> OK
    http.client.answer()
    http.client.get("/a")  # the same header section
    assert lines(http)[:2] == ["GET /a HTTP/1.1", "Host: x"]


@pytest.mark.parametrize(
    ("target", "passed"),
    [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/a?b", "/a?b"),
        ("/api?b", "/?b"),
        ("/%61pi/a%20b", "/a%20b"),
        ("/x/../api/a", "/a"),
    ],
)
def test_a_prefix_is_stripped(talk: Talks, target: str, passed: str) -> None:
    one = talk(route("http", "/api/", strip_prefix=True))
    one.client.get(target)
    assert asked(one) == f"GET {passed} HTTP/1.1"


@pytest.mark.parametrize(("host", "line"), [("upstream", "Host: a:80"), ("fixed", "Host: fixed"), ("client", "Host: x")])
def test_which_host_an_origin_server_is_told(talk: Talks, host: str, line: str) -> None:
    one = talk(route("http", host=host, addresses=(Address("a", 80),)))
    one.client.get()
    assert lines(one)[1] == line


def test_chunked_content_has_a_length_once_it_is_kept(http: Talk) -> None:
    http.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    octets = http.worker.take()
    assert b"Content-Length: 5\r\n\r\nhello" in octets
    assert octets.endswith(b"hello")


def test_chunked_content_is_passed_on_in_chunks_where_it_streams(talk: Talks) -> None:
    one = talk(route("http", request_buffering=False))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    assert one.worker.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    one.client >> b"0\r\n\r\n"
    one.worker << b"0\r\n\r\n"
    one.worker >> OK
    assert one.client.answer().content == b"hello"


def test_content_with_a_length_streams_as_it_comes(talk: Talks) -> None:
    one = talk(route("http", request_buffering=False))
    one.client >> b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    assert one.worker.take().endswith(b"Content-Length: 10\r\n\r\nhello")
    one.client >> b"world"
    one.worker << b"world"


# ---------------------------------------------------------------------- responses (61, 62)


def test_hop_by_hop_fields_of_a_response_end_here(http: Talk) -> None:
    http.client.get()
    http.worker >> (
        b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nStatus: 404\r\nContent-Length: 0\r\n\r\n"
    )
    answer = http.client.answer()
    assert (answer.status, answer.fields) == (200, {"status": "404", "content-length": "0"})


def test_content_until_the_end_of_the_connection_is_chunked_to_the_client(http: Talk) -> None:
    http.client.get()
    http.worker >> b"HTTP/1.1 200 OK\r\n\r\nhello" >> EOF
    answer = http.client.answer()
    assert (answer.content, answer.complete, answer.fields["transfer-encoding"]) == (b"hello", True, "chunked")
    http.client << None


def test_chunks_are_joined_and_trailers_passed_on(http: Talk) -> None:
    http.client.get()
    http.worker >> CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
    assert b"0\r\nX: y\r\n\r\n" in b"".join(piece for piece in http.client.got if isinstance(piece, bytes))
    assert http.client.answer().content == b"hello"


def test_head_has_no_content_whatever_it_says(http: Talk) -> None:
    http.client.get(method="HEAD")
    http.worker >> b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    answer = http.client.answer()
    assert (answer.fields["content-length"], answer.complete) == ("5", True)
    http.client.get()
    assert len(http.workers) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_204_and_304_have_no_content(http: Talk, status: bytes) -> None:
    http.client.get()
    http.worker >> b"HTTP/1.1 " + status + b'\r\nETag: "x"\r\n\r\n'
    answer = http.client.answer()
    assert (answer.content, answer.complete, answer.fields["etag"]) == (b"", True, '"x"')


def test_interim_responses_pass_in_order(http: Talk) -> None:
    http.client.get()
    http.worker >> b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" >> b"HTTP/1.1 102 Processing\r\n\r\n" + OK
    answer = http.client.answer()
    assert (answer.interim, answer.status) == ([103, 102], 200)


def test_interim_responses_are_not_for_1_0(http: Talk) -> None:
    http.client.get(version="1.0")
    http.worker >> b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK
    assert http.client.answer().interim == []


# ---------------------------------------------------------------------- connections kept (63)


def test_a_connection_is_kept(http: Talk) -> None:
    for _ in range(3):
        http.client.get()
        http.worker >> OK
        http.client.answer()
    assert len(http.workers) == 1


@pytest.mark.parametrize(
    "octets",
    [OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK.replace(b"1.1", b"1.0"), OK + b"more",
     OK + b"HTTP/1.1 200 OK\r\n\r\n"],
)  # fmt: skip
def test_a_connection_that_is_not_kept(http: Talk, octets: bytes) -> None:
    http.client.get()
    http.worker >> octets
    assert http.client.answer().content == b"hello"
    assert http.worker.got[-1] is CLOSED
    http.client.get()
    assert len(http.workers) == 2


def test_octets_on_an_idle_connection_end_it(http: Talk) -> None:
    http.client.get()
    http.worker >> OK >> b"HTTP/1.1 408 Request Timeout\r\n\r\n"
    http.client.answer()
    assert http.pool.members[0].open == 0
    http.client.get()
    http.worker >> OK
    assert http.client.answer().content == b"hello"


def test_an_early_answer_reaches_the_client(talk: Talks) -> None:
    one = talk(route("http", request_buffering=False))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    one.worker.say(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
    assert one.client.answer().status == 413
    assert one.worker.got[-1] is CLOSED
    one.client >> b"world"
    one.client.get()
    one.worker >> OK
    assert one.client.answer().content == b"hello"


def test_a_server_that_answers_early_and_reads_no_more_is_left(talk: Talks) -> None:
    one = talk(route("http", request_buffering=False))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    one.worker.room = 10
    one.client >> b"x" * 50_000
    one.worker >> b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n"
    assert one.client.answer().status == 413
    for _ in range(6):
        if one.worker.wire is not None:
            one.worker >> b"and it goes on talking"
        one.wait(1)
    assert one.worker.got[-1] is LOST
    assert one.pool.members[0].open == 0


def test_an_idle_connection_that_the_server_closes_is_forgotten(http: Talk) -> None:
    http.client.get()
    http.worker >> OK >> EOF
    http.client.answer()
    assert http.pool.members[0].open == 0


# ---------------------------------------------------------------------- what breaks (64, 67)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_sent_again(http: Talk, method: str) -> None:
    http.client.get("/a", method=method)
    http.worker >> EOF
    assert asked(http) == f"{method} /a HTTP/1.1"
    http.worker >> b"HTTP/1.1 204 Fine\r\n\r\n"
    assert http.client.answer().status == 204
    assert len(http.workers) == 2


def test_a_post_is_not_sent_again(http: Talk) -> None:
    http.client.post("/a", b"content")
    http.worker >> EOF
    assert http.client.answer().status == 502
    assert len(http.workers) == 1


def test_kept_content_is_sent_again_whole(http: Talk) -> None:
    http.client.post("/a", b"content", method="PUT")
    http.worker >> LOST
    assert http.worker.take().endswith(b"\r\n\r\ncontent")


def test_content_that_has_flowed_cannot_be_sent_again(talk: Talks) -> None:
    one = talk(route("http", request_buffering=False))
    one.client >> b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    one.worker >> LOST
    assert one.client.answer().status == 502
    assert len(one.workers) == 1


def test_nothing_is_sent_again_once_an_octet_of_a_response_has_come(http: Talk) -> None:
    http.client.get()
    http.worker >> b"HTTP/1.1 20" >> EOF
    assert http.client.answer().status == 502
    assert len(http.workers) == 1


@pytest.mark.parametrize("sign", [EOF, LOST])
@pytest.mark.parametrize(
    "octets", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"]
)
def test_nor_however_it_breaks_off(http: Talk, octets: bytes, sign: Sign) -> None:
    http.client.get()
    http.worker >> octets >> sign
    answer = http.client.answer()
    assert (answer.status, answer.interim) == (502, [103] if b"103" in octets else [])
    assert len(http.workers) == 1
    assert "worker-died" in http.log.text


def test_a_kept_connection_that_was_dead_is_no_beginning_of_a_response(http: Talk) -> None:
    http.client.get("/a")
    http.worker >> OK
    assert http.client.answer().content == b"hello"
    http.client.get("/b")
    http.worker >> LOST
    assert asked(http) == "GET /b HTTP/1.1"
    assert len(http.workers) == 2


@pytest.mark.parametrize(
    "octets", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
               b"HTTP/1.1 101 Switching\r\n\r\n", b"\0" * 20]
)  # fmt: skip
def test_rubbish_is_502_and_the_connection_goes(http: Talk, octets: bytes) -> None:
    http.client.get()
    http.worker >> octets
    assert http.client.answer().status == 502
    assert len(http.workers) == 1
    assert http.pool.members[0].open == 0


@pytest.mark.parametrize(
    "half", [OK[:-1], CHUNKED + b"3\r\nhel\r\n", CHUNKED + b"3\r\nhel\r\n0\r\n", CHUNKED + b"nonsense\r\n"]
)
def test_half_a_response_is_visibly_half(http: Talk, half: bytes) -> None:
    http.client.get()
    head, end, rest = half.partition(b"\r\n\r\n")
    http.worker >> head + end >> rest
    if http.worker.wire is not None:
        http.worker >> EOF
    answer = http.client.answer()
    assert answer.status == 200
    assert not answer.complete
    assert http.client.got == [CLOSED]


def test_half_a_response_to_a_1_0_client_is_a_reset(http: Talk) -> None:
    http.client.get(version="1.0")
    http.worker >> CHUNKED + b"3\r\nhel\r\n" >> EOF
    assert http.client.answer().content == b"hel"
    assert http.client.got == [LOST]


# ---------------------------------------------------------------------- the client leaves


def test_a_client_that_leaves_ends_the_connection(http: Talk) -> None:
    http.client.get()
    http.client >> LOST
    assert http.worker.got[-1] is LOST
    assert http.pool.members[0].open == 0
    assert http.accesses.statuses == [499]


def test_a_client_that_leaves_in_the_middle_of_a_response(http: Talk) -> None:
    http.client.get()
    http.worker >> OK[:-1]
    http.client >> LOST
    assert http.accesses.statuses == [200]
    assert http.pool.members[0].open == 0


# ---------------------------------------------------------------------- tunnels (62)

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_tunnel(http: Talk) -> None:
    http.client.get("/ws", *UPGRADE)
    got = lines(http)
    assert "Connection: upgrade" in got
    assert "Upgrade: websocket" in got
    http.worker >> SWITCH + b"first"
    http.client << b"HTTP/1.1 101 Switching Protocols\r\n"
    assert http.client.take().endswith(b"\r\n\r\nfirst")
    http.client >> b"\0\xffping"
    http.worker << b"\0\xffping"
    http.worker >> b"pong"
    http.client << b"pong"
    http.worker >> EOF
    http.client << LINGER
    assert http.accesses.statuses == [101]


def test_octets_that_come_with_the_request_for_a_tunnel_belong_to_it(http: Talk) -> None:
    http.client.get("/ws", *UPGRADE)
    http.client >> b"early"
    lines(http)
    http.worker >> SWITCH
    http.worker << b"early"


def test_the_client_ends_a_tunnel(http: Talk) -> None:
    http.client.get("/ws", *UPGRADE)
    http.worker >> SWITCH
    http.client >> LOST
    assert http.worker.got[-1] is LOST
    assert http.accesses.statuses == [101]


def test_a_tunnel_that_was_refused_is_a_response_like_any_other(http: Talk) -> None:
    http.client.get("/ws", *UPGRADE)
    http.worker >> OK
    assert http.client.answer().content == b"hello"
    http.client.get()
    http.worker >> OK
    assert http.client.answer().content == b"hello"


def test_a_route_without_tunnels(talk: Talks) -> None:
    one = talk(route("http", websocket=False))
    one.client.get("/ws", *UPGRADE)
    assert not [line for line in lines(one) if line.lower().startswith(("upgrade", "connection"))]
    one.worker >> SWITCH
    assert one.client.answer().status == 502


def test_back_pressure_in_a_tunnel(http: Talk) -> None:
    http.client.get("/ws", *UPGRADE)
    http.worker >> SWITCH
    http.worker.take()
    http.worker.room = 10
    http.client >> b"x" * 100
    http.client >> b"y" * 100
    assert http.client.on_the_way == [b"y" * 100]
    http.worker.takes_all()
    assert http.worker.take() == b"x" * 100 + b"y" * 100


# ---------------------------------------------------------------------- several origin servers


def test_a_server_that_refuses_is_passed_over(talk: Talks) -> None:
    one = talk(route("http", addresses=(Address(path="/a"), Address(path="/b"))))
    one.connects = False
    one.client.post("/", b"content")
    first = one.opens[0].address
    one.refuse()
    assert one.opens[0].address != first
    one.accept()
    one.worker >> OK
    assert one.client.answer().content == b"hello"
    one.connects = True
    for _ in range(3):  # for a while the other one gets everything
        other = one.connect()
        other.get()
        assert one.worker.end.member.address != first  # type: ignore[union-attr]


def test_round_robin_takes_them_in_turn(talk: Talks) -> None:
    one = talk(route("http", terms=Terms(balance="round-robin"), addresses=(Address(path="/a"), Address(path="/b"))))
    for _ in range(4):
        one.connect().get()
    assert sorted(peer.end.upstream for peer in one.workers) == ["unix:/a", "unix:/a", "unix:/b", "unix:/b"]  # type: ignore[union-attr]


# ---------------------------------------------------------------------- who the client is (65)


def test_a_trusted_proxy_is_believed(talk: Talks) -> None:
    one = talk(route("http"), trusted=(ipaddress.ip_network("192.0.2.0/24"),))
    one.client.get("/", "X-Forwarded-For: 6.6.6.6, 10.9.8.7", "X-Forwarded-Proto: https", "X-Request-Id: abc-1")
    got = lines(one)
    assert "X-Forwarded-For: 6.6.6.6, 10.9.8.7, 192.0.2.1" in got
    assert "X-Forwarded-Proto: https" in got
    assert "X-Request-Id: abc-1" in got
    one.worker >> OK
    assert one.accesses.records[0].remote_addr == b"10.9.8.7"


def test_nobody_else_is(http: Talk) -> None:
    http.client.get("/", "X-Forwarded-For: 10.9.8.7", "X-Forwarded-Proto: https", "X-Request-Id: abc-1")
    got = lines(http)
    assert "X-Forwarded-For: 192.0.2.1" in got
    assert "X-Forwarded-Proto: http" in got
    assert "X-Request-Id: abc-1" not in got
    http.worker >> OK
    assert http.accesses.records[0].remote_addr == b"192.0.2.1"

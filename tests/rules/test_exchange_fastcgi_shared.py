"""Requests that share a connection to a FastCGI worker, as conversations (FastCGI 3.3, 4.1)."""

from __future__ import annotations

import pytest

from gateway.ends import WINDOW, Address
from gateway.interfaces.fastcgi_hub import Hubs
from protocols.fastcgi_records import GET_VALUES_RESULT, record
from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LOST, Peer, Talk, route
from tests.rules.words import Fastcgi, encode_pair, end, page, records, request, stderr, stdout

HEAD = b"Content-Type: text/plain\n\n"


def worker(talk: Talk, number: int = -1) -> Fastcgi:
    return Fastcgi(talk.workers[number])


@pytest.fixture
def shared(talk: Talks) -> Talk:
    return talk(route("fastcgi", multiplex=True))


@pytest.fixture
def hubs(shared: Talk) -> Hubs:
    """With less room than there is."""
    interface = shared.interface()
    made = interface.hubs["unix:/w"] = Hubs(interface, shared.pool.members[0])
    made.kept_bytes = 256 * 1024
    return made


def clients(talk: Talk, count: int) -> list[Peer]:
    return [talk.client, *(talk.connect() for _ in range(count - 1))]


def stall(talk: Talk, client: Peer, pieces: int) -> None:
    """Its client takes the beginning of the first response, of which so many pieces come."""
    client.room = 1000
    worker(talk) >> stdout(1, HEAD)
    for _ in range(pieces):
        worker(talk) >> stdout(1, b"a" * 60_000)


def values(**told: str) -> bytes:
    return record(
        GET_VALUES_RESULT, 0, b"".join(encode_pair(f"FCGI_{name}".encode(), value.encode()) for name, value in told.items())
    )


# ---------------------------------------------------------------------- who multiplexes


def test_a_worker_that_says_so_is_sent_all_on_one_connection(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    first, second, third = clients(one, 3)
    first.get("/a")
    one.probes[0] >> values(MPXS_CONNS="1", MAX_CONNS="10", MAX_REQS="1000")
    second.get("/b")
    third.get("/c")
    assert len(one.workers) == 2  # the first was on its way before anything was known
    worker(one) << [*request(1, "GET /b"), *request(2, "GET /c")] >> page(2, b"c") + page(1, b"b")
    worker(one, 0) << request(1, "GET /a") >> page(1, b"a")
    assert [client.answer().content for client in (first, second, third)] == [b"a", b"b", b"c"]
    worker(one, 0) << ["CLOSED"]  # of no use any more


@pytest.mark.parametrize("told", [values(MPXS_CONNS="0"), values(MAX_CONNS="1"), values(), EOF])
def test_others_get_a_connection_for_each_request(talk: Talks, told: bytes) -> None:
    one = talk(route("fastcgi"))
    first, second = clients(one, 2)
    first.get("/a")
    one.probes[0] >> told
    second.get("/b")
    assert len(one.workers) == 2


def test_the_route_may_say_no(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=False))
    first, second, third = clients(one, 3)
    first.get("/a")
    one.probes[0] >> values(MPXS_CONNS="1")
    second.get("/b")
    third.get("/c")
    assert len(one.workers) == 3


def test_a_worker_that_said_so_and_does_not(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    worker(shared) << [*request(1, "GET /a"), *request(2, "GET /b")] >> end(2, protocol_status=1)
    assert len(shared.workers) == 2
    worker(shared) << request(1, "GET /b") >> page(1, b"b")
    worker(shared, 0) >> page(1, b"a")
    assert [client.answer().content for client in (first, second)] == [b"a", b"b"]


def test_another_program_at_the_same_place_is_asked_again(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    first, second, third = clients(one, 3)
    first.get("/a")
    worker(one) >> page(1, b"a")
    one.probes[0] >> values(MPXS_CONNS="1")
    first.get("/b")
    worker(one) >> EOF
    second.get("/c")  # a new connection, and a new question
    one.probes[1] >> values(MPXS_CONNS="0")
    third.get("/d")
    first.get("/e")
    assert one.workers[-1].wire is not one.workers[-2].wire
    assert not one.pool.members[0].multiplexes


# ---------------------------------------------------------------------- many at the same time


def test_octets_of_several_are_kept_apart(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    worker(shared) >> stdout(2, HEAD + b"b1 ") + stdout(1, HEAD + b"a1 ") + stdout(2, b"b2 ") + stdout(1, b"a2 ")
    worker(shared) >> stdout(1, b"a3") + stdout(1) + end(1) + stdout(2, b"b3") + stdout(2) + end(2)
    assert (first.answer().content, second.answer().content) == (b"a1 a2 a3", b"b1 b2 b3")
    assert len(shared.workers) == 1
    assert shared.pool.members[0].open == 0


def test_a_request_fails_alone(shared: Talk) -> None:
    first, second, third = clients(shared, 3)
    for client, target in ((first, "/a"), (second, "/b"), (third, "/c")):
        client.get(target)
    worker(shared) >> stdout(1, b"no header\n\n") + stdout(2, HEAD + b"b") + stderr(3, b"oh\n") + end(3, protocol_status=3)
    assert first.answer().status == 502
    assert third.answer().status == 500
    worker(shared) << [*request(1, "GET /a"), *request(2, "GET /b"), *request(3, "GET /c"), "ABORT_REQUEST 1"]
    worker(shared) >> stdout(1, b"late") + end(1) + stdout(2) + end(2)
    assert second.answer().content == b"b"


def test_a_client_that_leaves_ends_its_own_and_its_id_waits_for_the_worker(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    first >> LOST
    worker(shared) << [*request(1, "GET /a"), *request(2, "GET /b"), "ABORT_REQUEST 1"]
    assert shared.pool.members[0].open == 2
    worker(shared) >> stdout(1, b"late octets of a") + page(2, b"b")
    assert second.answer().content == b"b"
    worker(shared) >> end(1)
    assert shared.pool.members[0].open == 0
    second.get("/c")
    worker(shared) << request(3, "GET /c")


def test_a_worker_that_does_not_confirm_aborts_gets_no_more_on_that_connection(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    first >> LOST
    shared.wait(31)
    third = shared.connect()
    third.get("/c")
    assert len(shared.workers) == 2
    worker(shared, 0) >> page(2, b"b")
    assert second.answer().content == b"b"
    shared.wait(1)
    assert shared.workers[0].wire is None
    worker(shared) >> page(1, b"c")
    assert third.answer().content == b"c"
    assert shared.pool.members[0].open == 0


def test_who_lets_go_of_a_connection_need_not_ask_again(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    one.client.get("/a")
    worker(one) >> page(1, b"a")
    one.probes[0] >> values(MPXS_CONNS="1")
    for _ in range(3):
        one.client.answer()
        one.client.get("/b")
        worker(one) >> page(1, b"b")
        one.interface().let_go()
    assert (len(one.workers), len(one.probes)) == (4, 1)


def test_rubbish_ends_all_of_a_connection(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    worker(shared) >> b"\2rubbish" * 2
    assert (first.answer().status, second.answer().status) == (502, 502)
    assert not shared.interface().hubs["unix:/w"].open


def test_a_lost_connection_fails_only_what_cannot_be_sent_again(shared: Talk) -> None:
    first, second, third = clients(shared, 3)
    first.get("/a")
    second.post("/b", b"content")
    third.get("/c")
    worker(shared) >> stdout(3, HEAD + b"begun")
    worker(shared) >> LOST
    worker(shared) << request(1, "GET /a") >> page(1, b"a")
    assert first.answer().content == b"a"
    assert second.answer().status == 502
    assert third.answer().broken or not third.wire


def test_nobody_listens(shared: Talk) -> None:
    shared.connects = False
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    while shared.opens:
        shared.refuse()
    assert (first.answer().status, second.answer().status) == (503, 503)
    assert shared.pool.members[0].open == 0


def test_who_does_not_accept_in_time(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True, connect_s=2.0))
    one.connects = False
    first, second = clients(one, 2)
    first.get("/a")
    second.get("/b")
    one.wait(3)
    assert (first.answer().status, second.answer().status) == (504, 504)
    assert not one.opens


def test_an_overloaded_worker_gets_no_more_on_that_connection(shared: Talk) -> None:
    first, second = clients(shared, 2)
    first.get("/a")
    second.get("/b")
    worker(shared) >> end(2, protocol_status=2)
    assert len(shared.workers) == 2
    worker(shared) << request(1, "GET /b") >> page(1, b"b")
    worker(shared, 0) >> page(1, b"a")
    assert [client.answer().content for client in (first, second)] == [b"a", b"b"]
    assert shared.workers[0].wire is None


def test_a_connection_without_requests_is_closed_after_a_while(shared: Talk) -> None:
    shared.client.get("/a")
    worker(shared) >> page(1, b"a")
    shared.wait(50)
    assert shared.workers[0].wire is not None
    shared.wait(11)
    worker(shared) << [*request(1, "GET /a"), "CLOSED"]


def test_an_orderly_end_between_two_requests(shared: Talk) -> None:
    shared.client.get("/a")
    worker(shared) >> page(1, b"a") >> EOF
    shared.client.answer()
    shared.client.get("/b")
    assert len(shared.workers) == 2
    worker(shared) >> page(1, b"b")
    assert shared.client.answer().content == b"b"


def test_more_than_the_worker_takes_wait(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    first, second, third = clients(one, 3)
    first.get("/a")
    worker(one) >> page(1, b"a")
    one.probes[0] >> values(MPXS_CONNS="1", MAX_REQS="2")
    for client, target in ((first, "/b"), (second, "/c"), (third, "/d")):
        client.get(target)
    worker(one) << [*request(1, "GET /b"), *request(2, "GET /c")] >> page(2, b"c")
    worker(one) << request(3, "GET /d") >> page(3, b"d") + page(1, b"b")
    first.answer()
    assert [client.answer().content for client in (first, second, third)] == [b"b", b"c", b"d"]


def test_each_process_of_a_worker_gets_a_connection(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True), spread=2)
    some = clients(one, 4)
    for client in some:
        client.get("/a")
    assert len(one.workers) == 2
    for peer in one.workers:
        Fastcgi(peer) >> page(1, b"first") + page(2, b"second")
    assert sorted(client.answer().content for client in some) == [b"first", b"first", b"second", b"second"]
    some[0].get("/b")  # who is alone has no need of both
    assert len(one.workers) == 2


def test_a_crowd_gets_a_second_connection(shared: Talk, hubs: Hubs) -> None:
    hubs.crowded = 2
    for client in clients(shared, 3):
        client.get("/a")
    assert len(shared.workers) == 2


def test_when_the_crowd_has_gone_one_connection_carries_all_again(shared: Talk, hubs: Hubs) -> None:
    hubs.crowded = 2
    some = clients(shared, 3)
    for client in some:
        client.get("/a")
    first, second = (Fastcgi(peer) for peer in shared.workers)
    for asked, peer in ((2, first), (1, second)):
        for request_id in range(1, asked + 1):
            peer >> page(request_id, b"x")
    assert [client.answer().content for client in some] == [b"x"] * 3
    for number in range(3):
        for client in some[:2]:
            client.get("/b")
        for request_id in (3 + 2 * number, 4 + 2 * number):
            first >> page(request_id, b"y")
        assert [client.answer().content for client in some[:2]] == [b"y", b"y"]
        shared.wait(25)
    shared.workers[1].take()
    shared.workers[1] << CLOSED
    assert len(shared.workers) == 2


# ---------------------------------------------------------------------- windows


def test_a_large_upload_leaves_room_for_others(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True, request_buffering=False))
    first, second = clients(one, 2)
    first >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    one.worker.room = 1000
    for _ in range(15):
        first.say(b"x" * 65536) if not first.on_the_way else None
    assert len(first.on_the_way) > 0  # it is held back
    second.get("/b")
    one.worker.takes(100_000)
    one.worker.takes(100_000)
    assert "PARAMS 2 GET /b" in records(one.worker)
    one.worker.takes_all()


def test_an_early_answer_that_its_client_does_not_take_yet(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True, request_buffering=False))
    client = one.client
    client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * 50_000
    stall(one, client, 5)
    worker(one) >> stdout(1) + end(1)
    for _ in range(5):
        client.say(b"x" * 50_000)
    client.takes_all()
    octets = client.take()
    assert octets.count(b"a") >= 300_000 and octets.endswith(b"\r\n0\r\n\r\n")
    assert "defect" not in one.log.text


def test_uploads_take_turns(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True))
    one.connects = False
    first, second = clients(one, 2)
    for client, octet in ((first, b"a"), (second, b"b")):
        client >> b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" % octet
        for _ in range(3):
            client.say(octet * 100_000)
    one.accept()
    pieces = [line[:9] for line in records(one.worker) if line.startswith("STDIN") and len(line) > 9]
    turns = [piece for number, piece in enumerate(pieces) if not number or pieces[number - 1] != piece]
    assert turns == ["STDIN 1 a", "STDIN 2 b"] * 5
    worker(one) >> page(1, b"a") + page(2, b"b")
    assert (first.answer().content, second.answer().content) == (b"a", b"b")


def test_a_slow_client_holds_up_nobody_else(shared: Talk, hubs: Hubs) -> None:
    slow, quick = clients(shared, 2)
    slow.get("/a")
    quick.get("/b")
    stall(shared, slow, 40)
    assert shared.worker.on_the_way  # it is waited for, but not for long
    shared.wait(0.25)
    assert not shared.worker.on_the_way
    front = slow.wire
    assert front is not None and len(front.pending) + sum(map(len, front.end.out)) < 2 * WINDOW
    worker(shared) >> page(2, b"b")
    assert quick.answer().content == b"b"
    worker(shared) >> stdout(1, b"the end") + stdout(1) + end(1)
    slow.takes_all()
    octets = slow.take()
    assert octets.count(b"a" * 1000) >= 40 * 59 and octets.endswith(b"the end\r\n0\r\n\r\n")


def test_one_that_takes_little_now_and_then_is_slow_too_in_the_end(shared: Talk, hubs: Hubs) -> None:
    slow = shared.client
    slow.get("/a")
    stall(shared, slow, 20)
    for _ in range(4):
        assert shared.worker.on_the_way
        slow.takes(150_000)
        shared.wait(0.25)
    slow.takes(1)
    shared.wait(0.5)
    assert not shared.worker.on_the_way


def test_what_is_kept_for_a_client_is_let_go_of_when_it_leaves(shared: Talk, hubs: Hubs) -> None:
    slow, quick = clients(shared, 2)
    slow.get("/a")
    stall(shared, slow, 10)
    worker(shared) >> stdout(1) + end(1)
    assert shared.worker.on_the_way
    slow >> LOST
    quick.get("/b")
    worker(shared) >> page(2, b"b")
    assert quick.answer().content == b"b"
    assert shared.accesses.statuses == [200, 200]
    assert not hubs.open[0].keeping


def test_beyond_its_share_the_connection_waits_and_others_get_a_new_one(shared: Talk, hubs: Hubs) -> None:
    hubs.file_bytes = 500_000
    slow, quick = clients(shared, 2)
    slow.get("/a")
    stall(shared, slow, 20)
    shared.wait(0.25)
    assert shared.workers[0].on_the_way
    quick.get("/b")
    assert len(shared.workers) == 2
    worker(shared) >> page(1, b"b")
    assert quick.answer().content == b"b"
    slow.takes_all()
    worker(shared, 0) >> stdout(1) + end(1)
    assert slow.take().count(b"a" * 1000) >= 20 * 59


def test_what_is_kept_outlives_the_connection(shared: Talk, hubs: Hubs) -> None:
    slow = shared.client
    slow.get("/a")
    stall(shared, slow, 10)
    shared.wait(0.25)
    worker(shared) >> stdout(1) + end(1)
    worker(shared) >> EOF
    slow.takes_all()
    octets = slow.take()
    assert octets.count(b"a") >= 600_000 and octets.endswith(b"\r\n0\r\n\r\n")


def test_two_addresses_share_the_load(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True, addresses=(Address(path="/a"), Address(path="/b"))))
    for client in clients(one, 4):
        client.get("/x")
    assert [member.open for member in one.pool.members] == [2, 2]


def test_the_end_of_the_server(shared: Talk) -> None:
    shared.client.get("/a")
    shared.interface().close()
    worker(shared) << request(1, "GET /a") >> page(1, b"a")
    assert shared.client.answer().content == b"a"
    assert shared.workers[0].got == [CLOSED]

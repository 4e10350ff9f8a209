"""The rules of an exchange with a FastCGI worker, as conversations (SEMANTICS 34 to 42, 92 to 94, 98)."""

from __future__ import annotations

import pytest

from gateway.ends import Address
from protocols.fastcgi_records import GET_VALUES_RESULT, record
from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LOST, Talk, route
from tests.rules.words import Fastcgi, encode_pair, end, page, records, request, stderr, stdout

HEAD = b"Content-Type: text/plain\n\n"


def worker(talk: Talk, number: int = -1) -> Fastcgi:
    return Fastcgi(talk.workers[number])


@pytest.fixture
def fastcgi(talk: Talks) -> Talk:
    return talk(route("fastcgi"))


def test_a_request_and_its_answer(fastcgi: Talk) -> None:
    fastcgi.client.get("/a?b")
    worker(fastcgi) << request(1, "GET /a?b") >> page(1, b"hello")
    answer = fastcgi.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"hello", True)
    assert fastcgi.accesses.statuses == [200]


def test_a_connection_is_kept_and_ids_take_turns(fastcgi: Talk) -> None:
    for number in (1, 2, 3):
        fastcgi.client.get("/a")
        worker(fastcgi) << request(number, "GET /a") >> page(number, b"hello")
        assert fastcgi.client.answer().content == b"hello"
    assert len(fastcgi.workers) == 1


def test_content_that_is_here_goes_with_the_request(fastcgi: Talk) -> None:
    fastcgi.client.post("/a", b"content")
    worker(fastcgi) << request(1, "POST /a", "content") >> page(1, b"")
    assert fastcgi.client.answer().status == 200


def test_content_is_kept_until_it_is_complete(fastcgi: Talk) -> None:
    fastcgi.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    assert not fastcgi.workers
    fastcgi.client >> b"world"
    worker(fastcgi) << request(1, "POST /a", "helloworld")


def test_without_buffering_content_is_passed_on_as_it_comes(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    worker(one) << [*request(1, "POST /a", None), "STDIN 1 hello"]
    one.client >> b"world"
    worker(one) << ["STDIN 1 world", "STDIN 1"] >> page(1, b"")
    assert one.client.answer().complete


def test_stderr_goes_to_the_log_wherever_it_comes(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stderr(1, b"one\n") + stdout(1, HEAD[:7]) + stderr(1, b"two\n") + stdout(1, HEAD[7:] + b"x")
    worker(fastcgi) >> stdout(1) + stderr(1, b"three\n") + stderr(1) + end(1)
    assert fastcgi.client.answer().content == b"x"
    assert all(f"stderr: {word}" in fastcgi.log.text for word in ("one", "two", "three"))


def test_an_exit_status_is_logged_and_the_response_stands(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, HEAD) + end(1, 3)
    assert fastcgi.client.answer().complete
    assert "exited with status 3" in fastcgi.log.text


# ---------------------------------------------------------------------- the client leaves (39)


def test_client_that_leaves_aborts_the_request_and_keeps_the_worker(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    worker(fastcgi) << request(1, "GET /a")
    fastcgi.client >> LOST
    worker(fastcgi) << ["ABORT_REQUEST 1"]
    assert fastcgi.accesses.statuses == [499]
    worker(fastcgi) >> stdout(1, b"late octets of a") + end(1)
    other = fastcgi.connect()
    other.get("/b")
    worker(fastcgi) << request(2, "GET /b") >> page(2, b"b")
    assert other.answer().content == b"b"
    assert len(fastcgi.workers) == 1


def test_a_worker_that_does_not_confirm_an_abort_is_left_after_a_grace(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    fastcgi.client >> LOST
    worker(fastcgi) << [*request(1, "GET /a"), "ABORT_REQUEST 1"]
    fastcgi.wait(3)
    worker(fastcgi) << ["CLOSED"]
    assert fastcgi.pool.members[0].open == 0


def test_no_other_request_gets_on_a_connection_that_is_aborting(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    fastcgi.client >> LOST
    other = fastcgi.connect()
    other.get("/b")
    assert len(fastcgi.workers) == 2
    worker(fastcgi) << request(1, "GET /b") >> page(1, b"b")
    assert other.answer().content == b"b"


def test_an_abort_in_the_middle_of_content_ends_the_connection(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    one.client >> LOST
    worker(one) << [*request(1, "POST /a", None), "STDIN 1 hello", "ABORT_REQUEST 1", "CLOSED"]


def test_an_abort_that_the_worker_does_not_read_ends_the_connection_after_a_while(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    one.worker.room = 10
    one.client >> b"x" * 50_000
    one.client >> LOST
    one.wait(6)
    assert one.worker.got[-1] is LOST
    assert one.pool.members[0].open == 0


def test_a_client_that_leaves_while_the_connection_is_being_made(fastcgi: Talk) -> None:
    fastcgi.connects = False
    fastcgi.client.get()
    fastcgi.client >> LOST
    assert not [order for order in fastcgi.opens if type(order.end).__name__ != "Probe"]
    assert fastcgi.pool.members[0].open == 0


def test_a_request_that_fails_before_its_connection_was_even_ordered(talk: Talks) -> None:
    """All of it comes in one input: the head that asks for a worker, and the content that is too much."""
    one = talk(route("fastcgi", request_buffering=False, content_limit=3))
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert one.client.answer().status == 413
    member = one.pool.members[0]
    assert (member.open, member.unproven) == (0, {})


# ---------------------------------------------------------------------- early answers (40, 92)


def test_an_early_answer_reaches_the_client_and_the_connection_is_not_used_again(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    worker(one) << [*request(1, "POST /a", None), "STDIN 1 hello"] >> page(1, b"early")
    worker(one) << ["CLOSED"]
    assert one.client.answer().content == b"early"
    one.client >> b"world"  # the rest is read and dropped
    one.client.get("/b")
    worker(one) << request(1, "GET /b") >> page(1, b"b")
    assert one.client.answer().content == b"b"


# ---------------------------------------------------------------------- what breaks (36, 37, 42, 93, 94)


def test_a_worker_that_dies_before_its_head_is_asked_again(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    worker(fastcgi) << request(1, "GET /a") >> EOF
    worker(fastcgi) << request(1, "GET /a") >> page(1, b"second")
    assert fastcgi.client.answer().content == b"second"
    assert "sent again, since the method is idempotent" in fastcgi.log.text


def test_a_kept_connection_that_was_dead_costs_nothing(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    worker(fastcgi) << request(1, "GET /a") >> page(1, b"first")
    assert fastcgi.client.answer().content == b"first"
    fastcgi.client.get("/b")
    worker(fastcgi) << request(2, "GET /b") >> LOST
    assert len(fastcgi.workers) == 2
    worker(fastcgi) << request(1, "GET /b") >> page(1, b"second")
    assert fastcgi.client.answer().content == b"second"


@pytest.mark.parametrize("sign", [EOF, LOST])
def test_a_request_that_may_have_changed_something_is_not_sent_again(fastcgi: Talk, sign: object) -> None:
    fastcgi.client.post("/a", b"content")
    worker(fastcgi) << request(1, "POST /a", "content") >> sign  # type: ignore[operator]
    assert fastcgi.client.answer().status == 502
    assert len(fastcgi.workers) == 1
    assert "worker-died" in fastcgi.log.text


def test_a_post_is_sent_again_if_nobody_listened(fastcgi: Talk) -> None:
    fastcgi.connects = False
    fastcgi.client.post("/a", b"content")
    for _ in range(len(fastcgi.opens)):
        fastcgi.refuse()
    fastcgi.connects = True
    while fastcgi.opens:
        fastcgi.accept()
    worker(fastcgi) << request(1, "POST /a", "content") >> page(1, b"done")
    assert fastcgi.client.answer().content == b"done"


def test_a_worker_that_never_listens_is_503(fastcgi: Talk) -> None:
    fastcgi.connects = False
    fastcgi.client.get()
    while fastcgi.opens:
        fastcgi.refuse()
    answer = fastcgi.client.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")
    assert "connect-refused" in fastcgi.log.text


def test_three_attempts_are_enough(fastcgi: Talk) -> None:
    fastcgi.client.get()
    for number in range(3):
        assert len(fastcgi.workers) == number + 1
        worker(fastcgi) >> EOF
    assert len(fastcgi.workers) == 3
    assert fastcgi.client.answer().status == 502


def test_a_worker_that_dies_after_its_head_breaks_the_response_visibly(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, HEAD + b"half") >> EOF
    answer = fastcgi.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"half", False)
    assert answer.broken


def test_an_answer_that_looks_whole_is_not_without_end_request(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, HEAD + b"whole") + stdout(1) >> EOF
    assert not fastcgi.client.answer().complete


def test_without_keep_conn_the_end_of_stdout_is_enough(talk: Talks) -> None:
    one = talk(route("fastcgi", keepalive=0))
    one.client.get()
    worker(one) >> stdout(1, HEAD + b"whole") + stdout(1) >> EOF
    assert one.client.answer().complete
    worker(one) << ["BEGIN_REQUEST 1", "PARAMS 1 GET /", "STDIN 1", "CLOSED"]


def test_half_a_head_is_502_and_not_asked_for_again(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, b"Content-Ty") >> EOF
    assert fastcgi.client.answer().status == 502
    assert len(fastcgi.workers) == 1


def test_end_request_without_a_head_is_502(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1) + end(1)
    assert fastcgi.client.answer().status == 502
    assert "printed nothing" in fastcgi.log.text


def test_less_than_its_content_length_is_a_break(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, b"Status: 200\nContent-Length: 9\n\nhello") + stdout(1) + end(1)
    answer = fastcgi.client.answer()
    assert not answer.complete
    assert "octets before its Content-Length" in fastcgi.log.text


def test_more_than_its_content_length_is_cut_and_logged(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, b"Status: 200\nContent-Length: 3\n\nhello") + stdout(1) + end(1)
    assert fastcgi.client.answer().content == b"hel"
    assert "beyond its Content-Length" in fastcgi.log.text


@pytest.mark.parametrize("octets", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\2" + bytes(7), stdout(1, b"<html>\n\n")])
def test_rubbish_is_502_and_the_connection_goes(fastcgi: Talk, octets: bytes) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> octets
    assert fastcgi.client.answer().status == 502
    assert fastcgi.pool.members[0].open == 0
    assert len(fastcgi.workers) == 1


def test_an_overloaded_worker_sends_us_to_another(talk: Talks) -> None:
    one = talk(route("fastcgi", addresses=(Address(path="/a"), Address(path="/b"))))
    one.client.post("/", b"content")
    worker(one) >> end(1, protocol_status=2)
    assert len(one.workers) == 2
    assert one.workers[0].end.upstream != one.workers[1].end.upstream  # type: ignore[union-attr]
    worker(one) >> page(1, b"other")
    assert one.client.answer().content == b"other"


def test_a_worker_that_is_always_overloaded_is_503(fastcgi: Talk) -> None:
    fastcgi.client.get()
    for _ in range(3):
        worker(fastcgi) >> end(1, protocol_status=2)
    answer = fastcgi.client.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")


@pytest.mark.parametrize("status", [1, 2])
def test_a_kept_connection_that_takes_no_request_is_not_asked_again(fastcgi: Talk, status: int) -> None:
    """Not it, nor another that was kept: a new one is most likely to be taken (36)."""
    other = fastcgi.connect()
    fastcgi.client.get("/1")
    other.get("/2")
    worker(fastcgi, 0) << request(1, "GET /1") >> page(1, b"1")
    worker(fastcgi, 1) << request(1, "GET /2") >> page(1, b"2")
    other.answer()
    other >> b"PUT /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\ncontent"
    worker(fastcgi, 1) << request(2, "PUT /3", "content") >> end(2, protocol_status=status)
    worker(fastcgi, 1) << ["CLOSED"]
    worker(fastcgi, 2) << request(1, "PUT /3", "content") >> page(1, b"3")
    assert other.answer().content == b"3"


def test_what_cannot_be_sent_again_goes_on_a_new_connection_and_a_kept_one_makes_way(fastcgi: Talk) -> None:
    """Its worker might close it just now, and then nobody could tell what became of the request (USERS 2, 3)."""
    fastcgi.client.get("/1")
    worker(fastcgi) << request(1, "GET /1") >> page(1, b"1")
    fastcgi.client.answer()
    fastcgi.client.post("/2", b"content")
    worker(fastcgi, 0) << ["CLOSED"]
    worker(fastcgi, 1) << request(1, "POST /2", "content") >> page(1, b"2")
    assert fastcgi.client.answer().content == b"2"
    fastcgi.client.get("/3")
    worker(fastcgi, 1) << request(2, "GET /3") >> page(2, b"3")
    assert fastcgi.client.answer().content == b"3"


def test_an_unknown_role_is_500_and_no_reason_to_ask_again(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> end(1, protocol_status=3)
    assert fastcgi.client.answer().status == 500
    assert "Responder" in fastcgi.log.text
    assert len(fastcgi.workers) == 1


# ---------------------------------------------------------------------- out of turn (34, 37)


def test_octets_on_an_idle_connection_end_it(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) >> page(1, b"x") >> stdout(1, b"late")
    assert fastcgi.client.answer().content == b"x"
    assert fastcgi.pool.members[0].open == 0


def test_late_records_of_an_aborted_request_reach_nobody(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    fastcgi.client >> LOST
    worker(fastcgi) >> stdout(1, HEAD + b"a's octets") + end(1) + stdout(1, b"even later")
    other = fastcgi.connect()
    other.get("/b")
    fastcgi.worker.say(stdout(1, b"later still"))
    number = fastcgi.worker.end.request_id  # type: ignore[union-attr]
    fastcgi.worker.say(page(number, b"b's"))
    assert other.answer().content == b"b's"


def test_records_that_belong_to_no_request_are_skipped_and_logged_once_a_connection(fastcgi: Talk) -> None:
    for number in (1, 2, 3):
        fastcgi.client.get(f"/{number}")
        fastcgi.log.lines.clear()
        worker(fastcgi) >> stdout(number + 70, b"whose?") + stderr(99, b"whose?") + page(number, b"mine")
        assert fastcgi.client.answer().content == b"mine"
        told = [line for line in fastcgi.log.lines if "STDOUT" in line and "request id 71" in line]
        assert len(told) == len(fastcgi.log.lines) == (1 if number == 1 else 0)
        if told:
            assert told[0].startswith("warn upstream=unix:/w: ")
    assert len(fastcgi.workers) == 1


def test_what_comes_after_the_end_of_an_aborted_request_is_logged(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    fastcgi.client >> LOST
    worker(fastcgi) >> stdout(1, b"late") + end(1) + stdout(1, b"later")
    assert "STDOUT" in fastcgi.log.text


@pytest.mark.parametrize("together", [True, False])
def test_what_comes_after_the_end_of_a_request_is_logged(fastcgi: Talk, together: bool) -> None:
    fastcgi.client.get("/a")
    late = stdout(1, b"late") + stdout(1, b"later")
    if together:
        worker(fastcgi) >> page(1, b"a") + late
    else:
        worker(fastcgi) >> page(1, b"a") >> late
    assert fastcgi.client.answer().content == b"a"
    assert fastcgi.log.text.count("STDOUT") == 1


# ---------------------------------------------------------------------- local redirects (22)


def test_a_local_redirect_is_answered_as_if_the_client_had_asked(fastcgi: Talk) -> None:
    fastcgi.client.post("/a", b"content")
    worker(fastcgi) << request(1, "POST /a", "content") >> stdout(1, b"Location: /b?c\n\n")
    worker(fastcgi, 0) << ["ABORT_REQUEST 1"]
    worker(fastcgi, 1) << request(1, "GET /b?c") >> page(1, b"b")
    assert fastcgi.client.answer().content == b"b"
    worker(fastcgi, 0) >> end(1)
    assert fastcgi.accesses.statuses == [200]


def test_a_redirect_loop_is_500(fastcgi: Talk) -> None:
    fastcgi.client.get("/a")
    for _ in range(11):
        fastcgi.worker.say(stdout(fastcgi.worker.end.request_id, b"Location: /a\n\n"))  # type: ignore[union-attr]
    assert fastcgi.client.answer().status == 500
    assert "redirect-loop" in fastcgi.log.text


def test_a_redirect_to_head_stays_head(fastcgi: Talk) -> None:
    fastcgi.client.get("/a", method="HEAD")
    worker(fastcgi) >> stdout(1, b"Location: /b\n\n")
    worker(fastcgi) << request(1, "HEAD /b")


# ---------------------------------------------------------------------- time


def test_no_head_in_time_is_504(talk: Talks) -> None:
    one = talk(route("fastcgi", response_s=3.0))
    one.client.get()
    one.wait(2.5)
    one.client << None
    one.wait(1)
    assert one.client.answer().status == 504
    worker(one) << [*request(1, "GET /"), "ABORT_REQUEST 1"]
    assert len(one.workers) == 1
    assert "timeouts.response" in one.log.text


def test_a_worker_that_stops_in_the_middle_is_cut(talk: Talks) -> None:
    one = talk(route("fastcgi", read_s=2.0))
    one.client.get()
    worker(one) >> stdout(1, HEAD + b"a")
    for _ in range(3):
        one.wait(1.5)
        worker(one) >> stdout(1, b"b")
    one.wait(2.5)
    answer = one.client.answer()
    assert (answer.content, answer.complete) == (b"abbb", False)
    assert "read-timeout" in one.log.text


def test_an_exchange_takes_no_longer_than_its_total(talk: Talks) -> None:
    one = talk(route("fastcgi", total_s=3.0))
    one.client.get()
    worker(one) >> stdout(1, HEAD)
    for _ in range(3):
        one.wait(0.75)
        worker(one) >> stdout(1, b"x")
    one.wait(1)
    assert not one.client.answer().complete
    assert "total-timeout" in one.log.text


def test_a_connection_that_is_not_accepted_in_time_is_504_and_the_same_worker_is_not_asked_again(talk: Talks) -> None:
    one = talk(route("fastcgi", connect_s=1.0))
    one.connects = False
    one.client.get()
    one.wait(1.25)
    assert one.client.answer().status == 504
    assert "connect-timeout" in one.log.text


# ---------------------------------------------------------------------- how many connections (41, 98)


def told(one: Talk, connections: int) -> None:
    """The worker answers FCGI_GET_VALUES."""
    one.probes[-1] >> record(GET_VALUES_RESULT, 0, encode_pair(b"FCGI_MAX_CONNS", b"%d" % connections))
    one.probes[-1].got.clear()


def test_a_worker_is_asked_once_on_a_connection_of_its_own(fastcgi: Talk) -> None:
    for _ in range(3):
        fastcgi.client.get()
        number = fastcgi.worker.end.request_id  # type: ignore[union-attr]
        worker(fastcgi) >> page(number, b"")
        fastcgi.client.answer()
    assert len(fastcgi.probes) == 1


def test_requests_wait_in_line_for_the_connections_that_a_worker_has(fastcgi: Talk) -> None:
    fastcgi.client.get("/1")
    told(fastcgi, 2)
    others = [fastcgi.connect() for _ in range(3)]
    for number, other in enumerate(others, 2):
        other.get(f"/{number}")
    assert len(fastcgi.workers) == 2
    worker(fastcgi, 0) << request(1, "GET /1") >> page(1, b"1")
    worker(fastcgi, 0) << request(2, "GET /3") >> page(2, b"3")
    worker(fastcgi, 0) << request(3, "GET /4") >> page(3, b"4")
    worker(fastcgi, 1) << request(1, "GET /2") >> page(1, b"2")
    assert [peer.answer().content for peer in (fastcgi.client, *others)] == [b"1", b"2", b"3", b"4"]


def test_who_leaves_the_line_is_not_served(fastcgi: Talk) -> None:
    fastcgi.client.get("/1")
    fastcgi.interface().learned(fastcgi.pool.members[0], {b"FCGI_MAX_CONNS": b"2"})
    second, third, fourth = (fastcgi.connect() for _ in range(3))
    for number, other in enumerate((second, third, fourth), 2):
        other.get(f"/{number}")
    third >> LOST
    worker(fastcgi, 0) << request(1, "GET /1") >> page(1, b"1")
    worker(fastcgi, 0) << request(2, "GET /4")
    assert fastcgi.accesses.statuses == [499, 200]


def test_one_waits_in_line_no_longer_than_for_a_response(talk: Talks) -> None:
    one = talk(route("fastcgi", response_s=2.0, read_s=60.0), workers=1)
    one.client.get("/1")
    told(one, 1)
    worker(one) >> stdout(1, HEAD)
    other = one.connect()
    other.get("/2")
    one.wait(2.5)
    assert other.answer().status == 503
    assert "queue-timeout" in one.log.text


def test_a_connection_that_dies_serves_the_line_with_a_new_one(talk: Talks) -> None:
    one = talk(route("fastcgi"), workers=1)
    one.client.post("/1", b"content")
    told(one, 1)
    other = one.connect()
    other.get("/2")
    worker(one) >> LOST
    worker(one) << request(1, "GET /2") >> page(1, b"2")
    assert (one.client.answer().status, other.answer().content) == (502, b"2")


def test_an_idle_connection_makes_way_for_one_that_waits_at_a_worker(fastcgi: Talk) -> None:
    """A worker that serves one connection at a time is pinned by the idle one (98)."""
    other = fastcgi.connect()
    fastcgi.client.get("/1")
    worker(fastcgi, 0) << request(1, "GET /1")
    fastcgi.wait(1)
    other.get("/2")
    worker(fastcgi, 0) >> page(1, b"1")
    fastcgi.wait(0.5)
    third = fastcgi.connect()
    third.get("/3")  # takes the kept one, if there is one
    assert fastcgi.client.answer().content == b"1"


def test_an_idle_connection_is_closed_after_a_while(fastcgi: Talk) -> None:
    fastcgi.client.get()
    worker(fastcgi) << request(1, "GET /") >> page(1, b"x")
    fastcgi.client.answer()
    fastcgi.wait(6)
    worker(fastcgi) << ["CLOSED"]
    assert fastcgi.pool.members[0].open == 0


# ---------------------------------------------------------------------- back-pressure (68)


def test_a_client_that_does_not_read_holds_the_worker_back(fastcgi: Talk) -> None:
    fastcgi.client.room = 1000
    fastcgi.client.get()
    worker(fastcgi) >> stdout(1, HEAD + b"x" * 60_000)
    worker(fastcgi) >> stdout(1, b"y" * 60_000) >> stdout(1) + end(1)
    assert len(fastcgi.worker.on_the_way) == 2  # not read
    fastcgi.client.takes_all()
    answer = fastcgi.client.answer()
    assert (len(answer.content), answer.complete) == (120_000, True)


def test_a_worker_that_does_not_read_holds_the_client_back(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.connects = False
    one.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
    one.client >> b"x" * 60_000
    one.connects = True
    while one.opens:
        one.accept()
    one.worker.room = 100
    one.client >> b"x" * 60_000
    one.client >> b"x" * 60_000
    one.client >> b"x" * 120_000
    assert len(one.client.on_the_way) >= 1
    one.worker.takes_all()
    assert not one.client.on_the_way
    stdin = [line for line in records(one.worker) if line.startswith("STDIN 1 ")]
    assert sum(len(line) - len("STDIN 1 ") for line in stdin) == 300_000


def test_a_client_that_never_reads_is_left_and_the_worker_told(fastcgi: Talk) -> None:
    fastcgi.client.room = 0
    fastcgi.client.get()
    worker(fastcgi) << request(1, "GET /") >> stdout(1, HEAD + b"x" * 100)
    fastcgi.wait(61)
    worker(fastcgi) << ["ABORT_REQUEST 1"]
    fastcgi.client << LOST


def test_closed_is_what_the_client_sees_of_a_draining_gateway(fastcgi: Talk) -> None:
    fastcgi.client.get()
    fastcgi.site.drain()
    fastcgi.settle()
    worker(fastcgi) >> page(1, b"last")
    answer = fastcgi.client.answer()
    assert answer.content == b"last"
    fastcgi.client << CLOSED

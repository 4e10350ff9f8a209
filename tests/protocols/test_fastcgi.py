"""FastCGI: records byte by byte, both sides wired together, and what either refuses.

Promise: every point of the standard that `protocols/fastcgi.py` quotes has a test here.
Must never know: sockets. Next: `tests/crosstalk/test_fastcgi_hub.py`, many requests on one connection.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.fastcgi import ApplicationConnection, GatewayConnection
from protocols.fastcgi_events import (
    Abort,
    Begin,
    EndRequest,
    Skipped,
    Stderr,
    Stdin,
    StdinEnd,
    Stdout,
    StdoutEnd,
    UnknownType,
    Values,
)
from protocols.fastcgi_records import HEADER, ProtocolStatus, RecordReader, RecordType, Role, decode_pairs, encode_pair
from protocols.message import LocalProtocolError, RemoteProtocolError

REQUEST_COMPLETE = ProtocolStatus.REQUEST_COMPLETE


def rec(kind: int, request_id: int, content: bytes = b"", padding: int = 0, version: int = 1) -> bytes:
    """A record as its definition says (3.3), independent of the code under test."""
    head = bytes((version, kind)) + request_id.to_bytes(2, "big") + len(content).to_bytes(2, "big")
    return head + bytes((padding, 0)) + content + b"\xaa" * padding


def end_request(request_id: int, app_status: int = 0, status: int = 0, padding: int = 0) -> bytes:
    content = app_status.to_bytes(4, "big") + bytes((status, 0, 0, 0))
    return rec(RecordType.END_REQUEST, request_id, content, padding)


def begin_request(request_id: int, role: int = 1, flags: int = 1) -> bytes:
    return rec(RecordType.BEGIN_REQUEST, request_id, bytes((role >> 8, role & 255, flags, 0, 0, 0, 0, 0)))


def cuts(octets: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[a:b] for a, b in itertools.pairwise(marks)]


def merged(events: list) -> list:
    """Adjacent pieces of one stream count as one, repeated Skipped too: cutting is the network's affair."""
    result: list = []
    for event in events:
        if result and type(event) in (Stdout, Stderr, Stdin) and type(result[-1]) is type(event):
            if result[-1].request_id == event.request_id:
                result[-1] = type(event)(event.request_id, result[-1].octets + event.octets)
                continue
        if type(event) is not Skipped or result[-1:] != [event]:
            result.append(event)
    return result


def receive_all(connection, pieces: list[bytes]) -> list:
    return merged([event for piece in pieces for event in connection.receive(piece)])


def begun(connection: GatewayConnection | None = None, params: bytes = b"") -> GatewayConnection:
    connection = connection or GatewayConnection()
    connection.begin(Role.RESPONDER, params, True, b"")
    connection.outgoing()
    return connection


# ---------------------------------------------------------------------- name-value pairs (33, 90, 91)


@pytest.mark.parametrize(
    ("name", "value", "octets"),
    [
        (b"A", b"b", b"\x01\x01Ab"),
        (b"A", b"", b"\x01\x00A"),
        (b"A", b"v" * 127, b"\x01\x7fA" + b"v" * 127),
        (b"A", b"v" * 128, b"\x01\x80\x00\x00\x80A" + b"v" * 128),
        (b"n" * 127, b"", b"\x7f\x00" + b"n" * 127),
        (b"n" * 128, b"v", b"\x80\x00\x00\x80\x01" + b"n" * 128 + b"v"),
        (b"A", b"v" * 70_000, b"\x01\x80\x01\x11\x70A" + b"v" * 70_000),
    ],
)
def test_pair_is_encoded_with_the_shortest_lengths(name: bytes, value: bytes, octets: bytes) -> None:
    assert encode_pair(name, value) == octets
    assert decode_pairs(octets) == [(name, value)]


def test_four_octet_form_of_a_short_length_is_read() -> None:
    assert decode_pairs(b"\x80\x00\x00\x01\x80\x00\x00\x02Abc") == [(b"A", b"bc")]


@pytest.mark.parametrize(
    "octets",
    [b"\x01", b"\x01\x02Ab", b"\x80\x00", b"\x01\x80\x00\x00", b"\xff\xff\xff\xff\x00A", b"\x01\x01Ab\x05"],
)
def test_truncated_pair_is_refused(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_pairs(octets)


lengths = st.sampled_from([0, 1, 126, 127, 128, 129, 300, 65_535, 65_536])
pair_lists = st.lists(
    st.tuples(st.binary(max_size=20), st.binary(max_size=20))
    | st.tuples(st.just(b"N"), lengths.map(lambda n: b"v" * n)),
    max_size=6,
)


@given(pair_lists)
def test_pairs_survive_encoding(pairs: list[tuple[bytes, bytes]]) -> None:
    assert decode_pairs(b"".join(encode_pair(*pair) for pair in pairs)) == pairs


@given(st.binary(max_size=64))
def test_any_octets_are_pairs_or_an_error(octets: bytes) -> None:
    try:
        pairs = decode_pairs(octets)
    except RemoteProtocolError:
        return
    assert sum(len(name) + len(value) for name, value in pairs) < max(len(octets), 1)


# ---------------------------------------------------------------------- what the gateway sends (32)


def test_small_request_is_one_piece_of_padded_records() -> None:
    gateway = GatewayConnection()
    assert gateway.begin(Role.RESPONDER, encode_pair(b"A", b"b"), True, b"hi") == 1
    assert gateway.outgoing() == [
        b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"
        b"\x01\x04\x00\x01\x00\x04\x04\x00\x01\x01Ab\x00\x00\x00\x00"
        b"\x01\x04\x00\x01\x00\x00\x00\x00"
        b"\x01\x05\x00\x01\x00\x02\x06\x00hi\x00\x00\x00\x00\x00\x00"
        b"\x01\x05\x00\x01\x00\x00\x00\x00"
    ]


def test_request_without_content_ends_stdin_at_once() -> None:
    gateway = GatewayConnection()
    gateway.begin(Role.AUTHORIZER, b"", False, b"")
    assert b"".join(gateway.outgoing()) == (
        begin_request(1, role=2, flags=0) + rec(RecordType.PARAMS, 1) + rec(RecordType.STDIN, 1)
    )


def test_streamed_content_follows_piece_by_piece() -> None:
    gateway = GatewayConnection()
    request = gateway.begin(Role.RESPONDER, b"", True)
    assert b"".join(gateway.outgoing()) == begin_request(1) + rec(RecordType.PARAMS, 1)
    gateway.stdin(request, b"12345678")
    gateway.stdin(request, b"")
    assert gateway.outgoing() == [rec(RecordType.STDIN, 1, b"12345678")]
    gateway.stdin_end(request)
    assert gateway.outgoing() == [rec(RecordType.STDIN, 1)]
    with pytest.raises(LocalProtocolError):
        gateway.stdin(request, b"more")


@pytest.mark.parametrize("length", [1, 65_527, 65_528, 65_529, 65_535, 65_536, 200_000])
def test_records_are_multiples_of_eight_whatever_the_length(length: int) -> None:
    gateway = GatewayConnection()
    params = encode_pair(b"N", b"v" * length)
    gateway.begin(Role.RESPONDER, params, True, b"c" * length)
    octets = b"".join(gateway.outgoing())
    position = 0
    streams: dict[int, bytes] = {RecordType.PARAMS: b"", RecordType.STDIN: b""}
    while position < len(octets):
        _, kind, _, size, padding = HEADER.unpack_from(octets, position)
        assert (size + padding) % 8 == 0
        if kind in streams:
            streams[kind] += octets[position + 8 : position + 8 + size]
        position += 8 + size + padding
    assert streams == {RecordType.PARAMS: params, RecordType.STDIN: b"c" * length}


def test_long_meta_variables_are_cut_between_pairs() -> None:
    pairs = [(b"N%d" % n, b"v" * 9_999) for n in range(20)]
    gateway = GatewayConnection()
    gateway.begin(Role.RESPONDER, b"".join(encode_pair(*pair) for pair in pairs), True, b"")
    found = []
    for kind, _, content in RecordReader().receive(b"".join(gateway.outgoing())):
        if kind == RecordType.PARAMS and content:
            found += decode_pairs(content)  # each record is readable for itself, as php-fpm wants it
    assert found == pairs


def test_request_ids_take_turns_and_are_free_only_after_end_request() -> None:
    gateway = GatewayConnection(max_requests=2)
    assert gateway.begin(Role.RESPONDER, b"", True, b"") == 1
    for expected in [*range(2, 256), 2]:
        assert gateway.begin(Role.RESPONDER, b"", True, b"") == expected  # 1 is still active
        with pytest.raises(LocalProtocolError):
            gateway.begin(Role.RESPONDER, b"", True, b"")
        gateway.receive(end_request(expected))
    assert gateway.active == 1


def test_ids_are_as_small_as_the_number_of_those_that_are_active_lets_them_be() -> None:
    """And each comes again only after many others."""
    gateway = GatewayConnection(max_requests=1000)
    for _ in range(5):
        active = [gateway.begin(Role.RESPONDER, b"", True, b"") for _ in range(1000)]
        assert len(set(active)) == 1000 and max(active) <= 4000
        for request_id in active:
            gateway.receive(end_request(request_id))
        few = []
        for _ in range(600):
            few.append(gateway.begin(Role.RESPONDER, b"", True, b""))
            gateway.receive(end_request(few[-1]))
        assert max(few) <= 255
        assert all(len(set(few[n : n + 200])) == 200 for n in range(400))


def test_get_values_asks_for_the_three_limits() -> None:
    gateway = GatewayConnection()
    gateway.get_values()
    (octets,) = gateway.outgoing()
    assert octets.startswith(b"\x01\x09\x00\x00\x00\x30\x00\x00\x0e\x00FCGI_MAX_CONNS")


# ---------------------------------------------------------------------- what the gateway receives


def test_whole_response_in_one_read() -> None:
    octets = rec(RecordType.STDOUT, 1, b"Status: 200\n\nhi", 1) + rec(RecordType.STDOUT, 1)
    assert begun().receive(octets + end_request(1, 3)) == [
        Stdout(1, b"Status: 200\n\nhi"),
        StdoutEnd(1),
        EndRequest(1, 3, REQUEST_COMPLETE),
    ]


def test_first_octets_of_a_record_are_reported_before_the_last_arrive() -> None:
    gateway = begun()
    octets = rec(RecordType.STDOUT, 1, b"x" * 1_000)
    assert gateway.receive(octets[:10]) == [Stdout(1, b"xx")]
    assert gateway.receive(octets[10:]) == [Stdout(1, b"x" * 998)]


def test_adjacent_output_of_one_request_is_joined() -> None:
    many = b"".join(rec(RecordType.STDOUT, 1, b"%03d" % n, n % 5) for n in range(100))
    assert begun().receive(many + end_request(1)) == [
        Stdout(1, b"".join(b"%03d" % n for n in range(100))),
        EndRequest(1, 0, REQUEST_COMPLETE),
    ]


def test_stderr_may_come_anywhere() -> None:
    gateway = begun()
    octets = (
        rec(RecordType.STDERR, 1, b"early")
        + rec(RecordType.STDOUT, 1, b"Sta")
        + rec(RecordType.STDERR, 1, b"amid")
        + rec(RecordType.STDOUT, 1, b"tus")
        + rec(RecordType.STDOUT, 1)
        + rec(RecordType.STDERR, 1, b"late")
        + rec(RecordType.STDERR, 1)
        + end_request(1)
    )
    assert gateway.receive(octets) == [
        Stderr(1, b"early"),
        Stdout(1, b"Sta"),
        Stderr(1, b"amid"),
        Stdout(1, b"tus"),
        StdoutEnd(1),
        Stderr(1, b"late"),
        EndRequest(1, 0, REQUEST_COMPLETE),
    ]


def test_app_status_is_unsigned() -> None:
    assert begun().receive(end_request(1, 0xFFFFFFFF)) == [EndRequest(1, 0xFFFFFFFF, REQUEST_COMPLETE)]


@pytest.mark.parametrize("status", list(ProtocolStatus))
def test_protocol_status_is_reported(status: ProtocolStatus) -> None:
    assert begun().receive(end_request(1, 0, status)) == [EndRequest(1, 0, status)]


def test_padding_up_to_255_is_dropped_everywhere() -> None:
    octets = rec(RecordType.STDOUT, 1, b"a", 255) + rec(RecordType.STDOUT, 1, b"", 255)
    octets += end_request(1, padding=255)
    gateway = begun()
    assert receive_all(gateway, [octets[i : i + 1] for i in range(len(octets))]) == [
        Stdout(1, b"a"),
        StdoutEnd(1),
        EndRequest(1, 0, REQUEST_COMPLETE),
    ]
    assert gateway.idle


def test_connection_is_not_idle_while_padding_is_missing() -> None:
    gateway = begun()
    gateway.receive(end_request(1, padding=8)[:-1])
    assert not gateway.idle
    gateway.receive(b"\0")
    assert gateway.idle


def test_records_of_unknown_requests_are_skipped() -> None:
    octets = rec(RecordType.STDOUT, 9, b"x") * 3 + end_request(9) + rec(RecordType.STDOUT, 1, b"mine")
    assert begun().receive(octets) == [
        Skipped(9, RecordType.STDOUT),
        Skipped(9, RecordType.END_REQUEST),
        Stdout(1, b"mine"),
    ]


def test_output_after_end_request_is_skipped() -> None:
    octets = end_request(1) + rec(RecordType.STDOUT, 1, b"late")
    assert begun().receive(octets)[1:] == [Skipped(1, RecordType.STDOUT)]


def test_after_an_abort_only_the_end_is_reported() -> None:
    gateway = begun()
    gateway.abort(1)
    gateway.abort(1)
    assert gateway.outgoing() == [rec(RecordType.ABORT_REQUEST, 1)]
    assert gateway.active == 1
    octets = rec(RecordType.STDOUT, 1, b"x") + rec(RecordType.STDERR, 1, b"y") + rec(RecordType.STDOUT, 1)
    assert gateway.receive(octets + end_request(1)) == [EndRequest(1, 0, REQUEST_COMPLETE)]
    assert gateway.active == 0
    gateway.abort(1)
    assert gateway.outgoing() == []


def test_answers_to_management_records() -> None:
    gateway = GatewayConnection()
    answer = rec(RecordType.GET_VALUES_RESULT, 0, encode_pair(b"FCGI_MPXS_CONNS", b"1"), 3)
    refusal = rec(RecordType.UNKNOWN_TYPE, 0, bytes((9, 0, 0, 0, 0, 0, 0, 0)))
    assert gateway.receive(answer + refusal) == [Values({b"FCGI_MPXS_CONNS": b"1"}), UnknownType(9)]


def test_unknown_management_record_of_a_worker_is_skipped_and_not_answered() -> None:
    gateway = GatewayConnection()
    assert gateway.receive(rec(77, 0, b"?")) == [Skipped(0, 77)]
    assert gateway.outgoing() == []


@pytest.mark.parametrize(
    "octets",
    [
        rec(RecordType.STDOUT, 1, b"x", version=2),
        b"HTTP/1.1 400 Bad Request\r\n",
        rec(RecordType.END_REQUEST, 1, bytes(7)),
        end_request(1, 0, 4),
        rec(RecordType.BEGIN_REQUEST, 1, bytes(8)),
        rec(RecordType.PARAMS, 1, b"x"),
        rec(RecordType.STDIN, 1, b"x"),
        rec(RecordType.STDIN, 9, b"x"),
        rec(RecordType.STDOUT, 0, b"x"),
        rec(RecordType.GET_VALUES, 0),
        rec(RecordType.GET_VALUES_RESULT, 0, b"\x05"),
        rec(RecordType.GET_VALUES_RESULT, 1),
        rec(RecordType.UNKNOWN_TYPE, 0, b"\x09"),
        rec(0, 0),
        rec(12, 1),
        rec(RecordType.STDOUT, 1) + rec(RecordType.STDOUT, 1, b"after the end"),
    ],
)
def test_broken_rules_of_a_worker_are_errors(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        begun().receive(octets)


# ---------------------------------------------------------------------- the application's side (45)


def test_request_is_reported_with_all_its_meta_variables() -> None:
    application = ApplicationConnection()
    params = encode_pair(b"A", b"b" * 200)
    octets = (
        begin_request(5)
        + rec(RecordType.PARAMS, 5, params[:3], 7)  # a pair that spans records
        + rec(RecordType.PARAMS, 5, params[3:])
        + rec(RecordType.PARAMS, 5)
        + rec(RecordType.STDIN, 5, b"content", 255)
        + rec(RecordType.STDIN, 5)
    )
    assert receive_all(application, [octets]) == [
        Begin(5, Role.RESPONDER, True, [(b"A", b"b" * 200)]),
        Stdin(5, b"content"),
        StdinEnd(5),
    ]
    application.stdout(5, b"Status: 200\n\n")
    application.stdout(5, b"")
    application.stderr(5, b"oops")
    application.end(5, 7)
    assert b"".join(application.outgoing()) == (
        b"\x01\x06\x00\x05\x00\x0d\x03\x00Status: 200\n\n\0\0\0"
        b"\x01\x07\x00\x05\x00\x04\x04\x00oops\0\0\0\0"
        b"\x01\x07\x00\x05\x00\x00\x00\x00"
        b"\x01\x06\x00\x05\x00\x00\x00\x00"
        b"\x01\x03\x00\x05\x00\x08\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00"
    )
    assert not application.finished


def test_without_keep_conn_the_application_closes_after_the_request() -> None:
    application = ApplicationConnection()
    application.receive(begin_request(1, flags=0) + rec(RecordType.PARAMS, 1))
    assert not application.finished
    application.end(1)
    assert application.finished


def test_second_request_at_a_time_is_rejected() -> None:
    application = ApplicationConnection(max_requests=1)
    events = application.receive(begin_request(1) + begin_request(2) + rec(RecordType.PARAMS, 2, b"\1\1Ab"))
    assert events == []
    assert application.outgoing() == [end_request(2, 0, ProtocolStatus.CANT_MPX_CONN)]
    assert application.active == 1


def test_overloaded_every_new_request_is_rejected_and_the_others_go_on() -> None:
    application = ApplicationConnection(max_requests=2)
    application.receive(begin_request(1))
    application.overloaded = True
    assert application.receive(begin_request(2) + rec(RecordType.PARAMS, 2, b"\1\1Ab")) == []
    assert application.outgoing() == [end_request(2, 0, ProtocolStatus.OVERLOADED)]
    assert application.receive(rec(RecordType.PARAMS, 1)) == [Begin(1, Role.RESPONDER, True, [])]


def test_an_application_is_idle_between_requests_and_not_inside_a_record() -> None:
    application = ApplicationConnection()
    assert application.idle
    application.receive(begin_request(1)[:3])
    assert not application.idle
    application.receive(begin_request(1)[3:] + rec(RecordType.PARAMS, 1))
    assert not application.idle
    application.end(1)
    assert application.idle


@pytest.mark.parametrize("role", [Role.AUTHORIZER, Role.FILTER, 9])
def test_role_that_is_not_played_is_rejected(role: int) -> None:
    application = ApplicationConnection()
    application.receive(begin_request(1, role, flags=0) + rec(RecordType.DATA, 1, b"ignored"))
    assert application.outgoing() == [end_request(1, 0, ProtocolStatus.UNKNOWN_ROLE)]
    assert application.finished


def test_get_values_is_answered_with_what_is_known() -> None:
    application = ApplicationConnection(values={b"FCGI_MAX_REQS": b"8", b"FCGI_MPXS_CONNS": b"1"})
    gateway = GatewayConnection()
    gateway.get_values()
    assert application.receive(b"".join(gateway.outgoing())) == []
    assert gateway.receive(b"".join(application.outgoing())) == [
        Values({b"FCGI_MAX_REQS": b"8", b"FCGI_MPXS_CONNS": b"1"})
    ]


def test_unknown_management_record_is_answered_with_unknown_type() -> None:
    application = ApplicationConnection()
    assert application.receive(rec(77, 0, b"future")) == []
    assert GatewayConnection().receive(b"".join(application.outgoing())) == [UnknownType(77)]


def test_abort_before_the_meta_variables_are_complete_ends_the_request() -> None:
    application = ApplicationConnection()
    assert application.receive(begin_request(1) + rec(RecordType.ABORT_REQUEST, 1)) == []
    assert end_request(1) in b"".join(application.outgoing())
    assert application.active == 0


def test_abort_is_reported_to_the_application() -> None:
    application = ApplicationConnection()
    octets = begin_request(1) + rec(RecordType.PARAMS, 1) + rec(RecordType.ABORT_REQUEST, 1)
    assert application.receive(octets)[1:] == [Abort(1)]
    assert application.receive(rec(RecordType.ABORT_REQUEST, 2)) == []


def test_records_of_inactive_requests_are_ignored() -> None:
    application = ApplicationConnection()
    assert application.receive(rec(RecordType.STDIN, 3, b"late") + rec(RecordType.PARAMS, 3, b"x")) == []
    assert application.outgoing() == []


def test_too_long_meta_variables_are_refused_before_they_are_kept() -> None:
    application = ApplicationConnection(params_limit_bytes=100)
    application.receive(begin_request(1) + rec(RecordType.PARAMS, 1, b"x" * 100))
    with pytest.raises(RemoteProtocolError) as caught:
        application.receive(rec(RecordType.PARAMS, 1, b"x"))
    assert caught.value.status == 431


@pytest.mark.parametrize(
    "octets",
    [
        begin_request(0),
        begin_request(1) + begin_request(1),
        rec(RecordType.BEGIN_REQUEST, 1, b"\0\1"),
        begin_request(1) + rec(RecordType.STDIN, 1, b"before PARAMS"),
        begin_request(1) + rec(RecordType.PARAMS, 1) + rec(RecordType.PARAMS, 1),
        begin_request(1) + rec(RecordType.PARAMS, 1) + rec(RecordType.STDIN, 1) * 2,
        begin_request(1) + rec(RecordType.PARAMS, 1) + rec(RecordType.DATA, 1, b"x"),
        begin_request(1) + rec(RecordType.PARAMS, 1, b"\x05") + rec(RecordType.PARAMS, 1),
        rec(RecordType.STDOUT, 1, b"x"),
        rec(RecordType.UNKNOWN_TYPE, 0, bytes(8)),
        rec(12, 1),
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_broken_rules_of_a_gateway_are_errors(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ApplicationConnection().receive(octets)


def test_responding_to_an_inactive_request_is_our_defect() -> None:
    application = ApplicationConnection()
    for call in (application.stdout, application.stderr):
        with pytest.raises(LocalProtocolError):
            call(1, b"x")
    with pytest.raises(LocalProtocolError):
        application.end(1)


# ---------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    pair_lists, st.binary(max_size=300) | lengths.map(bytes), lengths.map(bytes), st.binary(max_size=50),
    st.booleans(), st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=12),
)  # fmt: skip
def test_both_sides_understand_each_other_however_the_stream_is_cut(
    pairs: list, content: bytes, response: bytes, errors: bytes, whole: bool, places: list[int]
) -> None:
    gateway, application = GatewayConnection(), ApplicationConnection()
    params = b"".join(encode_pair(*pair) for pair in pairs)
    if whole:
        request = gateway.begin(Role.RESPONDER, params, True, content)
    else:
        request = gateway.begin(Role.RESPONDER, params, True)
        for start in range(0, len(content), 1_000):
            gateway.stdin(request, content[start : start + 1_000])
        gateway.stdin_end(request)
    events = receive_all(application, cuts(b"".join(gateway.outgoing()), places))
    assert events == [
        Begin(request, Role.RESPONDER, True, pairs),
        *([Stdin(request, content)] if content else []),
        StdinEnd(request),
    ]
    application.stderr(request, errors)
    application.stdout(request, response)
    application.end(request, 5)
    events = receive_all(gateway, cuts(b"".join(application.outgoing()), places))
    assert events == [
        *([Stderr(request, errors)] if errors else []),
        *([Stdout(request, response)] if response else []),
        StdoutEnd(request),
        EndRequest(request, 5, REQUEST_COMPLETE),
    ]
    assert gateway.idle
    assert application.active == 0


records = st.builds(
    rec, st.integers(0, 14), st.integers(0, 3), st.binary(max_size=20) | st.just(bytes(8)), st.integers(0, 9)
)
likely = st.sampled_from([end_request(1), begin_request(1), begin_request(2, 3, 0)])
streams = st.lists(records | likely, max_size=12)


@settings(max_examples=150)
@given(
    streams.map(b"".join) | st.binary(max_size=100), st.sampled_from(["gateway", "application"]),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)  # fmt: skip
def test_any_octets_in_any_cutting_give_the_same_events_or_an_error(
    octets: bytes, side: str, places: list[int]
) -> None:
    def outcome(pieces: list[bytes]) -> object:
        connection = begun() if side == "gateway" else ApplicationConnection(max_requests=2)
        try:
            return receive_all(connection, pieces), connection.outgoing()
        except RemoteProtocolError:
            return "refused"

    single = [octets[i : i + 1] for i in range(len(octets))]
    assert outcome([octets]) == outcome(cuts(octets, places)) == outcome(single)


def test_one_record_at_most_is_held() -> None:
    reader = RecordReader()
    octets = rec(RecordType.GET_VALUES_RESULT, 0, bytes(65_535), 255)
    for start in range(0, len(octets), 1_000):
        reader.receive(octets[start : start + 1_000])
        assert sum(map(len, reader._content)) + len(reader._header) <= 65_535
    assert reader.idle
    assert not reader._content

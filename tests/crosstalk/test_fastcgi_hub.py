"""Cross-talk: many requests on one FastCGI connection, and no octet of one in another.

Promise: whatever the interleaving, cutting, aborting, lateness and reuse of ids, each exchange that
ends normally got exactly its own octets, in both directions, and an aborted one got nothing more.
Must never know: sockets. Next: `protocols/fastcgi.py`.
"""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocols.fastcgi import ApplicationConnection, GatewayConnection
from protocols.fastcgi_events import Abort, Begin, EndRequest, Skipped, Stderr, Stdin, StdinEnd, Stdout, StdoutEnd
from protocols.fastcgi_records import END_REQUEST, STDERR, STDOUT, ProtocolStatus, Role, encode_pair, record

MAX_REQUESTS = 6
choice = st.integers(min_value=0, max_value=1 << 16)


class Exchange:
    """One request, every octet of which bears its number; what was sent and what has arrived."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.marks = 0
        self.aborted = self.ended = self.known = False
        self.content = self.content_arrived = b""
        self.content_complete = False
        self.output = self.output_arrived = b""
        self.errors = self.errors_arrived = b""

    def marked(self, length: int) -> bytes:
        self.marks += 1
        return (b"<%d.%d>" % (self.number, self.marks)) * (length + 1)


class Hub(RuleBasedStateMachine):
    """A gateway and an application with an unreliable sense of order between them."""

    def __init__(self) -> None:
        super().__init__()
        self.gateway = GatewayConnection(MAX_REQUESTS)
        self.application = ApplicationConnection(max_requests=MAX_REQUESTS)
        self.inwards = bytearray()  # to the application
        self.outwards = bytearray()  # to the gateway
        self.number = 0
        self.at_gateway: dict[int, Exchange] = {}
        self.at_application: dict[int, Exchange] = {}
        self.recent: deque[tuple[int, Exchange]] = deque(maxlen=20)
        """Ended ones, whose ids come round again only after many more requests."""

    # ------------------------------------------------------------------ the gateway acts

    @precondition(lambda self: self.gateway.active < MAX_REQUESTS)
    @rule(length=st.integers(0, 40), whole=st.booleans())
    def begin(self, length: int, whole: bool) -> None:
        self.number += 1
        exchange = Exchange(self.number)
        params = encode_pair(b"NUMBER", b"%d" % self.number) + encode_pair(b"X", exchange.marked(length))
        if whole:
            exchange.content = exchange.marked(length)
            exchange.content_complete = True
        request_id = self.gateway.begin(Role.RESPONDER, params, True, exchange.content if whole else None)
        assert request_id not in self.at_gateway
        self.at_gateway[request_id] = exchange
        self.collect()

    @precondition(lambda self: self.at_gateway)
    @rule(which=choice, length=st.integers(0, 40), last=st.booleans())
    def send_content(self, which: int, length: int, last: bool) -> None:
        request_id, exchange = self.pick(self.at_gateway, which)
        if exchange.content_complete or exchange.aborted:
            return
        octets = exchange.marked(length)
        exchange.content += octets
        self.gateway.stdin(request_id, octets)
        if last:
            exchange.content_complete = True
            self.gateway.stdin_end(request_id)
        self.collect()

    @precondition(lambda self: self.at_gateway)
    @rule(which=choice)
    def abort(self, which: int) -> None:
        request_id, exchange = self.pick(self.at_gateway, which)
        exchange.aborted = True
        self.gateway.abort(request_id)
        self.collect()

    # ------------------------------------------------------------------ the application acts

    @precondition(lambda self: self.at_application)
    @rule(which=choice, length=st.integers(0, 60), errors=st.booleans())
    def respond(self, which: int, length: int, errors: bool) -> None:
        request_id, exchange = self.pick(self.at_application, which)
        octets = exchange.marked(length)
        if errors:
            exchange.errors += octets
            self.application.stderr(request_id, octets)
        else:
            exchange.output += octets
            self.application.stdout(request_id, octets)
        self.collect()

    @precondition(lambda self: self.at_application)
    @rule(which=choice)
    def end(self, which: int) -> None:
        request_id, exchange = self.pick(self.at_application, which)
        del self.at_application[request_id]
        self.application.end(request_id, exchange.number)
        exchange.ended = True
        self.recent.append((request_id, exchange))
        self.collect()

    @precondition(lambda self: self.recent)
    @rule(which=choice, kind=st.sampled_from([STDOUT, STDERR, END_REQUEST]))
    def speak_too_late(self, which: int, kind: int) -> None:
        """A defect of many workers: octets of a request that has ended."""
        request_id, exchange = self.recent[which % len(self.recent)]
        content = bytes(8) if kind == END_REQUEST else exchange.marked(3)
        self.outwards += record(kind, request_id, content)

    # ------------------------------------------------------------------ the network acts

    @rule(length=st.integers(1, 200))
    def carry_inwards(self, length: int) -> None:
        octets = bytes(self.inwards[:length])
        del self.inwards[:length]
        for event in self.application.receive(octets):
            match event:
                case Begin(request_id=request_id, role=Role.RESPONDER, keep_connection=True, params=params):
                    exchange = self.at_gateway[request_id]
                    assert dict(params)[b"NUMBER"] == b"%d" % exchange.number
                    assert dict(params)[b"X"].startswith(b"<%d." % exchange.number)
                    exchange.known = True
                    self.at_application[request_id] = exchange
                case Stdin(request_id=request_id, octets=content):
                    exchange = self.at_application[request_id]
                    exchange.content_arrived += content
                    assert exchange.content.startswith(exchange.content_arrived)
                case StdinEnd(request_id=request_id):
                    exchange = self.at_application[request_id]
                    assert exchange.content_arrived == exchange.content
                case Abort(request_id=request_id):
                    assert self.at_application[request_id].aborted
        self.collect()

    @rule(length=st.integers(1, 200))
    def carry_outwards(self, length: int) -> None:
        octets = bytes(self.outwards[:length])
        del self.outwards[:length]
        for event in self.gateway.receive(octets):
            match event:
                case Stdout(request_id=request_id, octets=content):
                    exchange = self.at_gateway[request_id]
                    assert not exchange.aborted
                    exchange.output_arrived += content
                    assert exchange.output.startswith(exchange.output_arrived)
                case Stderr(request_id=request_id, octets=content):
                    exchange = self.at_gateway[request_id]
                    assert not exchange.aborted
                    exchange.errors_arrived += content
                    assert exchange.errors.startswith(exchange.errors_arrived)
                case StdoutEnd(request_id=request_id):
                    assert not self.at_gateway[request_id].aborted
                case EndRequest(request_id=request_id, app_status=app_status, protocol_status=protocol_status):
                    exchange = self.at_gateway.pop(request_id)
                    assert protocol_status is ProtocolStatus.REQUEST_COMPLETE
                    assert app_status == (exchange.number if exchange.known else 0)
                    assert exchange.ended or not exchange.known
                    if not exchange.aborted:
                        assert exchange.output_arrived == exchange.output
                        assert exchange.errors_arrived == exchange.errors
                case Skipped(request_id=request_id):
                    assert request_id not in self.at_gateway
                case _:
                    raise AssertionError(event)
        self.collect()

    @rule(count=st.sampled_from([2, 10, 260]), late=st.booleans())
    def serve_many(self, count: int, late: bool) -> None:
        """Quick requests, until ids come round again; perhaps each is late during the next one."""
        self.carry_inwards(len(self.inwards) + 1)
        self.carry_outwards(len(self.outwards) + 1)
        self.recent.clear()
        for _ in range(count):
            if self.gateway.active == MAX_REQUESTS:
                return
            self.begin(1, True)
            self.carry_inwards(len(self.inwards))
            request_id, exchange = list(self.at_application.items())[-1]
            assert exchange.number == self.number
            self.respond(len(self.at_application) - 1, 2, False)
            self.end(len(self.at_application) - 1)
            self.carry_outwards(len(self.outwards))
            assert request_id not in self.at_gateway
            assert exchange.output_arrived == exchange.output
            if late:
                self.speak_too_late(len(self.recent) - 1, STDOUT)
        self.carry_outwards(len(self.outwards))
        self.recent.clear()

    # ------------------------------------------------------------------ always

    @invariant()
    def counts_agree(self) -> None:
        assert self.gateway.active == len(self.at_gateway)
        assert self.application.active >= len(self.at_application)

    def teardown(self) -> None:
        """Let everything come to its end: each exchange must have got exactly its own."""
        while self.inwards or self.outwards or self.at_application:
            self.carry_inwards(len(self.inwards) + 1)
            while self.at_application:
                self.end(0)
            self.carry_outwards(len(self.outwards) + 1)
        assert not self.at_gateway
        assert self.gateway.idle

    @staticmethod
    def pick(exchanges: dict[int, Exchange], which: int) -> tuple[int, Exchange]:
        return list(exchanges.items())[which % len(exchanges)]

    def collect(self) -> None:
        for octets in self.gateway.outgoing():
            self.inwards += octets
        for octets in self.application.outgoing():
            self.outwards += octets


Hub.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, report_multiple_bugs=False
)  # fmt: skip
TestHub = Hub.TestCase

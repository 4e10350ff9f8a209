"""Cross-talk: many requests on one connection to an application of ours, and no octet of one in another.

Promise: whatever the interleaving, cutting, aborting, failing and clogging, the application gets each request's
own content, and the web server each request's own response, whole, or an end that tells that it is not.
Must never know: sockets. Next: `gateway/fronts/fastcgi.py`; `test_fastcgi_hub.py`, the codec alone.
"""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gateway.exchange import ResponseSide
from gateway.fronts.fastcgi import FastcgiFront
from protocols.cgi import ScriptResponseReader
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_events import EndRequest, GatewayEvent, Skipped, Stdout, StdoutEnd, Values
from protocols.fastcgi_records import ProtocolStatus, Role, encode_pair
from protocols.message import Content, RemoteProtocolError, Response
from tests.rules.hosted import Call, Hosted, Server
from tests.rules.playbook import LOST, Sign

VALUES = {b"FCGI_MAX_REQS": b"6"}
MARK = re.compile(rb"<(\d+)\.")
BREAK = re.compile(rb"\x01\x02..\0\0\0\0", re.DOTALL)
"""ABORT_REQUEST."""
REACTIONS = ("later", "whole", "whole", "head", "piece", "failure", "others", "others")
CUTS = (1, 8, 100, 1 << 20, 1 << 20, 1 << 20)
ALL = 1 << 20
WAITING = ResponseSide.WAITING


class Asked:
    """One request, every octet of whose content and response bears its number."""

    def __init__(self, number: int, method: bytes) -> None:
        self.number = number
        self.method = method
        self.marks = 0
        self.content = b""
        self.content_complete = self.aborted = False
        self.said = b""
        """Content of the response, as the application has said it; `failed` if that is not all."""
        self.failed = self.complete = False
        self.got = b""

    def marked(self, length: int) -> bytes:
        self.marks += 1
        return (b"<%d.%d>" % (self.number, self.marks)) * (length + 1)

    def response(self) -> tuple[int, bytes]:
        """Status and content as the web server understands what it has got."""
        reader = ScriptResponseReader(request_method=self.method)
        events = [*reader.receive(self.got), *reader.receive_eof()]
        assert isinstance(events[0], Response)
        assert not reader.overrun
        return events[0].status, b"".join(event.data for event in events if isinstance(event, Content))


class Front:
    """A web server, a network that cuts and delays, and an application."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.talk = Hosted(lambda site: FastcgiFront(site, max_requests=at_once, values=VALUES))
        self.server: Server = self.talk.client
        self.all: dict[int, Asked] = {}
        self.reactions: list[str] = []
        self.talk.app.answers = self.react
        self.outcomes: Counter[str] = Counter()
        self.fresh()

    def fresh(self) -> None:
        """Another connection."""
        self.codec = GatewayConnection(self.at_once)
        self.active: dict[int, Asked] = {}
        self.inwards = bytearray()
        self.outwards = bytearray()

    # ------------------------------------------------------------------ the web server acts

    def begin(self, how: int, length: int) -> None:
        if self.codec.active >= self.at_once:
            return
        number = len(self.all) + 1
        asked = self.all[number] = Asked(number, b"HEAD" if how % 10 == 3 else b"GET")
        params = encode_pair(b"REQUEST_METHOD", asked.method) + encode_pair(b"REQUEST_URI", b"/%d" % number)
        params += encode_pair(b"HTTP_X", asked.marked(length))
        content = None
        if how % 3:
            content = asked.content = asked.marked(length) if length % 2 else b""
            asked.content_complete = True
            if how % 2:
                params += encode_pair(b"CONTENT_LENGTH", b"%d" % len(content))
        request_id = self.codec.begin(Role.RESPONDER, params, how % 16 != 7, content)
        assert request_id not in self.active
        self.active[request_id] = asked
        self.collect()

    def send_content(self, which: int, length: int) -> None:
        open_ones = [(n, a) for n, a in self.active.items() if not (a.content_complete or a.aborted)]
        if not open_ones:
            return
        request_id, asked = open_ones[which % len(open_ones)]
        octets = asked.marked(length)
        asked.content += octets
        self.codec.stdin(request_id, octets)
        if length % 2:
            asked.content_complete = True
            self.codec.stdin_end(request_id)
        self.collect()

    def abort(self, which: int, length: int) -> None:
        if self.active:
            request_id, asked = list(self.active.items())[which % len(self.active)]
            asked.aborted = True
            self.codec.abort(request_id)
            self.collect()

    def ask_for_values(self, which: int, length: int) -> None:
        self.codec.get_values()
        self.collect()

    def read_no_more(self, which: int, length: int) -> None:
        self.server.room = 5 * length

    def read_on(self, which: int, length: int) -> None:
        self.server.takes_all()

    # ------------------------------------------------------------------ the application acts

    def calls(self) -> list[Call]:
        over = ResponseSide.DONE
        return [call for call in self.talk.app.calls if not call.left and call.exchange.response_side is not over]

    def asked_of(self, call: Call) -> Asked:
        asked = self.all[int(call.exchange.request.target[1:])]
        assert call.variables[b"HTTP_X"].startswith(b"<%d." % asked.number)
        return asked

    def speak(self, call: Call, length: int) -> None:
        """The head of a response, or a piece of its content."""
        asked = self.asked_of(call)
        if call.exchange.response_side is WAITING:
            call.head((b"X-Number", b"%d" % asked.number))
            return
        octets = asked.marked(length)
        asked.said += octets
        call.say(octets)

    def finish(self, call: Call) -> None:
        self.asked_of(call).complete = True
        call.end()

    def break_down(self, call: Call) -> None:
        self.asked_of(call).failed = True
        call.fail()

    def react_with(self, which: int, length: int) -> None:
        """What it does, one after the other, in the turn in which a request is complete."""
        self.reactions = [REACTIONS[(which >> shift) % len(REACTIONS)] for shift in range(0, length % 16, 3)]

    def react(self, call: Call) -> None:
        if not self.reactions:
            return
        reaction = self.reactions[0]
        self.reactions = [*self.reactions[1:], reaction]
        if reaction == "others":
            for other in self.calls():
                if other is not call and other.exchange.response_side is not WAITING:
                    self.speak(other, 1)
        elif call.exchange.response_side is not WAITING or reaction == "later":
            return
        elif reaction == "failure":
            self.break_down(call)
        else:
            self.speak(call, 1)
            if reaction != "head":
                self.speak(call, 5)
            if reaction == "whole":
                self.finish(call)

    def app(self, which: int, length: int) -> None:
        """It does something with one of its requests."""
        calls = self.calls()
        if not calls:
            return
        call = calls[which % len(calls)]
        act = which // len(calls) % 16
        if act == 0:
            self.break_down(call)
        elif act < 4:
            call.fills = act == 1
            call.takes()
        elif act < 8 and call.exchange.response_side is WAITING:
            asked = self.asked_of(call)
            asked.said = asked.marked(10 * length)
            asked.complete = True
            call.respond(asked.said, (b"X-Number", b"%d" % asked.number))
        elif act < 12 and call.exchange.response_side is not WAITING:
            self.finish(call)
        else:
            self.speak(call, length)

    # ------------------------------------------------------------------ the network acts

    def carry_inwards(self, which: int, length: int) -> None:
        self.carry_in(CUTS[which % len(CUTS)])

    def carry_in(self, length: int) -> None:
        octets = bytes(self.inwards[:length])
        del self.inwards[:length]
        if octets and self.server.wire is not None:
            self.server.say(octets)

    def carry_outwards(self, which: int, length: int) -> None:
        self.carry_out(CUTS[which % len(CUTS)])

    def carry_out(self, length: int) -> None:
        self.outwards += self.server.take()
        if self.server.got and BREAK.match(self.outwards, max(0, len(self.outwards) - 8)):
            # no web server understands this; it is the last thing that comes, and takes nothing else away
            assert any(asked.failed for asked in self.active.values())
            del self.outwards[-8:]
        octets = bytes(self.outwards[:length])
        del self.outwards[:length]
        for item in self.decoded(octets):
            match item:
                case Stdout(request_id=request_id, octets=content):
                    asked = self.active[request_id]
                    assert not asked.aborted
                    assert set(MARK.findall(content)) <= {b"%d" % asked.number}
                    asked.got += content
                case StdoutEnd(request_id=request_id):
                    assert request_id in self.active
                case EndRequest(request_id=request_id, app_status=app_status, protocol_status=protocol_status):
                    self.over(self.active.pop(request_id), app_status, protocol_status)
                case Values(pairs=pairs):
                    assert pairs == VALUES
                case Skipped(request_id=request_id, type=kind):
                    raise AssertionError(f"a record of type {kind} for request {request_id}, which has ended")
                case _:
                    raise AssertionError(item)
        if not self.outwards and self.server.got:
            self.closed()

    def decoded(self, octets: bytes) -> list[GatewayEvent]:
        try:
            return self.codec.receive(octets)
        except RemoteProtocolError as error:
            broken = error
        # the first octets of the break have come before
        assert "never sends ABORT_REQUEST" in broken.detail
        assert len(octets) < 8
        assert not self.outwards
        return []

    def over(self, asked: Asked, app_status: int, protocol_status: ProtocolStatus) -> None:
        if asked.aborted:
            self.outcomes["aborted"] += 1
            return
        assert protocol_status is ProtocolStatus.REQUEST_COMPLETE
        if app_status:
            assert asked.failed
            self.outcomes["failed beside others"] += 1
            return
        status, content = asked.response()
        if status == 500:
            assert asked.failed
            assert not MARK.search(content)
        else:
            assert (status, asked.complete) == (200, True)
            assert content == (b"" if asked.method == b"HEAD" else asked.said)
        self.outcomes[f"{status}"] += 1

    def closed(self) -> None:
        """Only those are lost whose response was not whole; and none of them has had its END_REQUEST."""
        sign = self.server.got[0]
        assert isinstance(sign, Sign)
        self.outcomes[f"connection {sign.value}"] += 1
        for asked in self.active.values():
            assert not asked.complete or asked.aborted, "a whole response is lost"
            if asked.got and not asked.aborted and b"Content-Length" in asked.got:
                try:
                    asked.response()
                except RemoteProtocolError:
                    continue
                raise AssertionError("a response that is not complete looks as if it were")
        if self.server.wire is not None:
            self.server.say(LOST)
        self.server = self.talk.connect()
        self.fresh()

    # ------------------------------------------------------------------ always

    def check(self) -> None:
        for call in self.talk.app.calls:
            asked = self.asked_of(call)
            assert asked.content.startswith(call.got)
            assert not call.complete or asked.content == call.got
        self.talk.app.calls = self.calls()
        if self.server.wire is not None:
            assert len(self.server.wire.pending) < ALL

    def serve_many(self, which: int, length: int) -> None:
        """Several arrive at once, so that several responses leave in one turn."""
        self.carry_in(ALL)
        self.react_with(which, 16 + length % 16)
        for number in range(length % 5 + 1):
            self.begin(1 + (which >> number) % 2, (which >> number) % 7)
        self.carry_in(ALL)

    def end(self) -> None:
        """Let everything come to its end."""
        server = self.server
        self.reactions = []
        self.server.takes_all()
        while server is self.server and (self.inwards or self.outwards or self.server.got or self.calls()):
            self.carry_in(ALL)
            for call in self.calls():
                call.fills = False
                call.takes()
                if call.exchange.response_side is WAITING:
                    self.speak(call, 0)
                self.finish(call)
            self.carry_out(ALL)
        if server is self.server:
            left = [asked for asked in self.active.values() if asked.content_complete and not asked.aborted]
            assert not left, "a request without an answer"
        self.talk.all_leave()
        assert "defect" not in self.talk.log.text

    def collect(self) -> None:
        for octets in self.codec.outgoing():
            self.inwards += octets


OPERATIONS = (
    *[Front.begin] * 6, *[Front.send_content] * 4, Front.abort, Front.ask_for_values, Front.read_no_more,
    *[Front.read_on] * 2, *[Front.app] * 8, Front.react_with, *[Front.carry_inwards] * 8, *[Front.carry_outwards] * 6,
    *[Front.serve_many] * 2,
)  # fmt: skip
operations = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 1 << 16), st.integers(0, 60))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from([1, 2, 6]), st.lists(operations, min_size=60, max_size=200))
def test_no_octet_of_one_request_is_in_another(at_once: int, acts: list) -> None:
    front = Front(at_once)
    for act, which, length in acts:
        act(front, which, length)
        front.check()
    front.end()
    for outcome in front.outcomes:
        event(outcome)

"""The FastCGI front: a web server's connection to us, when we are the application.

Promise: each request gets its own response and nobody else's; one that is not complete never looks as if it
were, as long as the protocol can say so; all that needs no application is answered here (SEMANTICS 43 to 45).
Must never know: routes, interfaces, applications. Next: `gateway/requested.py`, one request on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN, Close, End, Outgoing, SocketName
from gateway.errors import GatewayError, Side
from gateway.requested import CgiRequest, may_connect, stalled
from protocols.cgi_application import variables_of
from protocols.fastcgi import ApplicationConnection
from protocols.fastcgi_events import Abort, Begin, Stdin
from protocols.fastcgi_records import ABORT_REQUEST, STDOUT, Role, record
from protocols.message import Peer, RemoteProtocolError

if TYPE_CHECKING:
    from gateway.site import Site

FRESH_S: Final = 1.0
"""How long a new connection may wait with its request where others wait for their turn."""
SETTLED_S: Final = 0.5
"""How long a kept one may: its next request may be on the way."""
REFUSING: Final = 256
"""So many connections above the limit are kept until their request can be told why."""
RECORD_BYTES: Final = 65_528
"""Content of a record in a long stream: no padding is needed."""
JOIN_BYTES: Final = 4096
"""What is shorter, and has not left yet, shares a record with what follows: a head with its content."""
ROLES: Final = (Role.RESPONDER, Role.AUTHORIZER)


class FastcgiFront(End):
    """One connection from a web server."""

    __slots__ = (
        "allowed", "begun", "codec", "last", "newest", "newest_id", "newest_octets", "peer", "refusal", "repeats",
        "requests", "sends_files", "since", "site", "stalled_since",
    )  # fmt: skip

    def __init__(
        self,
        site: Site,
        *,
        max_requests: int = 1,
        values: Mapping[bytes, bytes] | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        """`max_requests`: at the same time on this connection; `values`: what GET_VALUES asks for;
        `allowed`: the addresses of web servers (FCGI_WEB_SERVER_ADDRS), empty for any."""
        super().__init__(site.turn)
        self.site = site
        self.codec = ApplicationConnection(max_requests=max_requests, values=values, roles=ROLES)
        self.requests: dict[int, CgiRequest] = {}
        """Those whose meta-variables are complete and whose response is not."""
        self.allowed = allowed
        self.peer: Peer = site.unknown_peer
        """The web server."""
        self.sends_files = False
        self.since = 0.0
        """When it was accepted, or its last response was complete."""
        self.stalled_since = 0.0
        self.begun = 0
        """Requests that have come so far."""
        self.last = False
        """Whether the connection is to end with what is under way."""
        self.repeats = False
        """Whether the web server sends elsewhere what we reject, as the gateway does."""
        self.refusal: GatewayError | None = None
        self.newest = b""
        """The record of a response that was made last, whose it is, and what is in it if that is short."""
        self.newest_id = 0
        self.newest_octets = b""

    # ------------------------------------------------------------------ from the driver

    def accepted(self, remote: SocketName, local: SocketName, now: float) -> None:
        site = self.site
        self.since = now
        self.peer = Peer(remote[0].encode(), b"%d" % remote[1], local[0].encode(), b"%d" % local[1], https=False)
        if not may_connect(site, self.peer, self.allowed):
            self.close(Close.ABORT)
        elif not site.admit(self):
            self.refusal = GatewayError(
                503, "connection-limit", f"more than {site.limits.connections} connections",
                "raise server.limits.connections", side=Side.GATEWAY, retry_after_s=1,
            )  # fmt: skip
            self.last = True
            self.deadline = now + site.timeouts.header_s
            if len(site.fronts) > site.limits.connections + REFUSING:
                self.close(Close.ABORT)

    def received(self, octets: bytes, now: float) -> None:
        if self.closing is not OPEN:
            return
        codec = self.codec
        try:
            events = codec.receive(octets)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        for answer in codec.outgoing():
            self.send(answer)
        requests = self.requests
        for event in events:
            kind = type(event)
            if kind is Begin:
                self._begin(event)  # type: ignore[arg-type]
                continue
            request = requests.get(event.request_id)
            if request is None:  # answered: what still comes of it is dropped
                continue
            if kind is Stdin:
                request.content_in(event.octets, now)  # type: ignore[union-attr]
            elif kind is Abort:  # the client has left, and the web server wants the connection back (5.4)
                request.lost()
                self.ended(request)
            else:
                request.content_in_end()
        if codec.finished and self.closing is OPEN:  # a request was rejected, and more of it may be on its way
            self._end(Close.LINGER)

    def received_eof(self, now: float) -> None:
        """As nginx tells that its client has left: it closes, and sends no ABORT_REQUEST."""
        self._all_lost()
        self.close(Close.FLUSH)

    def unsent(self, length: int, now: float) -> None:
        was = self.held
        self.held = length
        if self.closing is not OPEN:
            return
        if length:
            self.stalled_since = now
            self.deadline = min(self.deadline, now + self.site.timeouts.write_s)
        for request in list(self.requests.values()):
            if bool(was) is not bool(length):
                request.room(not length)
            if not length:
                request.pump()
        self.regulate()

    def expired(self, now: float) -> None:
        """`deadline` is not later than that of any request; find out whose it was, and the next one."""
        write_s = self.site.timeouts.write_s
        if self.closing is not OPEN:
            self.close(Close.ABORT)
        elif self.held and now - self.stalled_since >= write_s:
            self.close(Close.ABORT)
            if not self.requests:
                self.site.report_client(self.peer, stalled(write_s))
            for request in list(self.requests.values()):
                request.stalled(write_s)
        elif self.refusal is not None and not self.requests:
            self._end(Close.FLUSH)
        else:
            for request in list(self.requests.values()):
                request.expired(now)
            if self.closing is OPEN:
                deadline = self.stalled_since + write_s if self.held else math.inf
                for request in self.requests.values():
                    deadline = min(deadline, request.due())
                self.deadline = deadline

    def drain(self) -> None:
        """The server ends: close if nothing of a request is here or just about to be; else after what is under way."""
        if not self.codec.idle:
            self._last()
        else:
            self.make_room(self.turn.now)

    def make_room(self, now: float) -> None:
        """Others wait for the engine that this connection holds, or it ends: close if it is idle, or takes its time."""
        if self.codec.idle and self.closing is OPEN and now - self.since > (SETTLED_S if self.begun else FRESH_S):
            self._end(Close.FLUSH)

    def lost(self, error: OSError | None, now: float) -> None:
        self._all_lost()
        self.out.clear()
        self.site.leave(self)

    # ------------------------------------------------------------------ requests

    def _begin(self, begin: Begin) -> None:
        site = self.site
        variables = variables_of(begin.params)
        authorizer = begin.role is Role.AUTHORIZER
        self.repeats = variables.get(b"SERVER_SOFTWARE", b"").startswith(b"gateway-suite/")
        variables[b"FCGI_ROLE"] = b"AUTHORIZER" if authorizer else b"RESPONDER"
        if authorizer:
            variables.pop(b"CONTENT_LENGTH", None)  # it gets no content (6.3), and must not wait for any
        self.begun += 1
        if not self.last and site.full():
            self._last()
        request = CgiRequest(site, self, variables, begin.request_id)
        self.requests[begin.request_id] = request
        if self.refusal is not None:
            request.refuse(self.refusal)
        elif authorizer:
            request.start(0)
        else:
            request.begin()

    def _last(self) -> None:
        """Take no further request; close after those that are under way."""
        self.last = True
        self.codec.overloaded = True

    def _end(self, how: Close) -> None:
        self.deadline = self.turn.now + self.site.timeouts.write_s
        self.close(how)

    def _all_lost(self) -> None:
        requests = list(self.requests.values())
        self.requests.clear()
        for request in requests:
            request.lost()

    def _broken(self, error: RemoteProtocolError) -> None:
        """The web server broke the rules of FastCGI: what follows can't be told apart any more."""
        remedy = "see whether it is FastCGI that the web server speaks to this address"
        self.site.report_client(
            self.peer, GatewayError(error.status, "bad-request", error.detail, remedy, side=Side.CLIENT)
        )
        self._all_lost()
        self._end(Close.FLUSH)

    # ------------------------------------------------------------------ for the requests (Carrier)

    @property
    def clogged(self) -> bool:
        return self.held > 0

    def output(self, request: CgiRequest, octets: Outgoing) -> None:
        assert type(octets) is bytes
        length = len(octets)
        if length > RECORD_BYTES:
            for start in range(0, length, RECORD_BYTES):
                self.send(record(STDOUT, request.id, octets[start : start + RECORD_BYTES]))
            return
        out = self.out
        joins = self.newest_octets and self.newest_id == request.id and out and out[-1] is self.newest
        if joins and len(self.newest_octets) + length <= RECORD_BYTES:
            octets = self.newest_octets + octets
            newest = out[-1] = record(STDOUT, request.id, octets)
        else:
            newest = record(STDOUT, request.id, octets)
            self.send(newest)
        self.newest = newest
        self.newest_id = request.id
        self.newest_octets = octets if len(octets) < JOIN_BYTES else b""

    def pump_later(self) -> None:
        self.wants_room = True
        self.touch()

    def ended(self, request: CgiRequest, app_status: int = 0) -> None:
        del self.requests[request.id]
        self.since = self.turn.now
        codec, out = self.codec, self.out
        codec.end(request.id, app_status)
        octets = b"".join(codec.outgoing())
        if out and out[-1] is self.newest and self.newest_id == request.id:
            out[-1] = self.newest + octets
        else:
            self.send(octets)
        self.newest_id = 0
        if self.closing is not OPEN:
            return
        site = self.site
        if self.repeats and not codec.finished and (site.draining or site.served >= site.requests):
            # the next request may be on its way: it is rejected, and not lost with the connection
            self._last()
            self.regulate()
        elif codec.finished or ((self.last or site.draining) and not codec.active):
            # with content unread, closing would reset the connection behind the response (RFC 1122 4.2.2.13)
            self._end(Close.FLUSH if request.input_ended else Close.LINGER)
        else:
            self.regulate()

    def break_off(self, request: CgiRequest) -> None:
        if self.closing is not OPEN:
            return
        if self.codec.active > 1:
            # To close would cut the responses of all others, too, and appStatus is all that the protocol has
            # besides: whoever counts octets (Content-Length) sees the break, and who looks at appStatus may.
            self.ended(request, 1)
            return
        del self.requests[request.id]
        if self.peer.remote_addr and (self.begun == 1 or self.codec.max_requests == 1):
            self._end(Close.ABORT)
            return
        # On a unix socket there is no reset, and one would take away what is still on its way of others. A
        # connection that ends without END_REQUEST tells, too, but not nginx without fastcgi_keep_conn: what
        # tells it, and everybody else, is a record that an application never sends.
        self.send(record(ABORT_REQUEST, request.id, b""))
        self._end(Close.FLUSH)

    def regulate(self) -> None:
        """Read, unless the one request there is wants no content now, or nobody reads our answers."""
        wanted = True
        if self.held:
            wanted = any(request.awaits_content and request.wanted for request in self.requests.values())
        elif self.codec.active == 1:  # with others beside it, its content is kept by the exchange
            wanted = all(request.wanted for request in self.requests.values())
        if wanted is not self.wants_data:
            self.wants_data = wanted
            self.touch()

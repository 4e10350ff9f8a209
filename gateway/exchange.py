"""The rules of one request: what is forwarded, when, and who is told of failure.

Promise: written once for every front, interface and driver; it is pushed from both sides, never
waits, and gives orders instead of acting. Exactly one response, or a visible break, per request.
Must never know: sockets, wire formats, how the interface talks. Next: `interfaces/` (inwards).

    request side                                response side
    SPOOLING   kept until it is complete        WAITING   nothing of a response yet: may be repeated
    CONTENT    passed on as it comes            CONTENT   the head is with the client
    DONE       all of it has arrived            TUNNEL    both directions are opaque octets (101)
                                                DONE      complete, or cut where the client can tell
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.ends import Outgoing
from gateway.errors import GatewayError, Retry, Side, too_large
from gateway.sides import Call as Call
from gateway.sides import Client as Client
from gateway.spool import Spool
from protocols.message import END, Content, EndOfMessage, FieldLines, LocalRedirect, Request, Response

if TYPE_CHECKING:
    from gateway.routing import Found
    from gateway.site import Service, Site

LOCAL_REDIRECTS: Final = 10
"""How often a script may redirect locally before it is called a loop (SEMANTICS 22)."""
ATTEMPTS: Final = 3
"""How many workers at most are asked for one request."""
"""RFC 9110 9.2.2, and two safe methods of WebDAV."""


class RequestSide(enum.Enum):
    SPOOLING = "spooling"
    CONTENT = "content"
    DONE = "done"


class ResponseSide(enum.Enum):
    WAITING = "waiting"
    CONTENT = "content"
    TUNNEL = "tunnel"
    DONE = "done"


# A member is looked up on its class ten times as slowly as a global of the module; a Final one costs nothing in C.
SPOOLING: Final = RequestSide.SPOOLING
STREAMING: Final = RequestSide.CONTENT
REQUEST_DONE: Final = RequestSide.DONE
WAITING: Final = ResponseSide.WAITING
RESPONDING: Final = ResponseSide.CONTENT
TUNNEL: Final = ResponseSide.TUNNEL
RESPONSE_DONE: Final = ResponseSide.DONE


class Exchange:
    """One request on its way through us, from its head to the last octet or its failure."""

    __slots__ = (
        "attempts", "avoid", "call", "client", "client_full", "content_octets", "content_passed", "deadline", "found", "id",
        "late", "peer", "queued_in", "redirects", "request", "request_side", "responded_at", "response_octets",
        "response_side", "service", "site", "spool", "stale", "started", "status", "total_deadline", "trailers",
        "upstream",
    )  # fmt: skip

    def __init__(self, site: Site, client: Client, request: Request) -> None:
        site.exchanges += 1
        self.site = site
        self.client = client
        self.request = request
        if site.forwarding.believes or client.variables is not None:
            self.id = site.exchange_id(client, request)
            self.peer = site.forwarding.effective(client.peer, request)
        else:
            self.id = site.new_exchange_id()
            self.peer = client.peer
        self.started = site.turn.now
        self.request_side = STREAMING if request.length != 0 else REQUEST_DONE
        self.response_side = WAITING
        self.call: Call | None = None
        self.found: Found | None = None
        self.service: Service | None = None
        self.spool: Spool | None = None
        self.attempts = 0
        self.redirects = 0
        self.content_octets = 0
        """Octets of request content that have arrived."""
        self.response_octets = 0
        self.status = 0
        self.deadline = math.inf
        """Point of the driver's clock after which `expired` is due; `late` says what is late then."""
        self.late = ""
        self.total_deadline = math.inf
        self.responded_at = 0.0
        self.upstream = ""
        self.queued_in: deque[Any] | None = None
        """The line in which this exchange waits for a worker."""
        self.client_full = False
        self.stale = False
        """Whether a kept connection was found dead under this exchange: the next one must be a new one."""
        self.avoid: tuple[Any, ...] = ()  # workers at which it has failed
        self.content_passed = False
        """Whether the worker of this attempt has got all request content."""
        self.trailers: FieldLines = ()
        """The trailer section of the request, for a call whose framing has a place for it."""

    # ------------------------------------------------------------------ request side

    def begin(self) -> None:
        """The head is here: route it and decide how its content travels."""
        request = self.request
        try:
            found = self.found = self.site.router.resolve(request.method, request.host, request.target)
            if found.redirect:
                self.respond(Response(301, [(b"Location", found.redirect)], length=0))
                self.response_end()
                return
            service = self.service = self.site.services[found.route.number]
            service.counts.begun()
            route = found.route
            if route.total_s:
                self.total_deadline = self.deadline = self.started + route.total_s
                self.late = "total"
            length = request.length
            if length == 0:
                self.start_call()
                return
            if length is not None and length > route.content_limit:
                raise too_large(route.content_limit)
            if service.interface.spools or (length is None and service.interface.needs_length):
                self.request_side = SPOOLING
                self.spool = Spool()
                self.client.read_content(True)
                return
            self.start_call()
        except GatewayError as error:
            self.failed(error)

    def start_call(self) -> None:
        """Ask the interface to send the request to a worker; also the way of every retry."""
        self.attempts += 1
        service = self.service
        assert service is not None
        self.content_passed = False
        if self.spool is not None:
            self.spool.rewind()
        self._wait_for_response()
        if self.request_side is not REQUEST_DONE:
            self.client.read_content(False)
        try:
            service.interface.start(self)
            if self.queued_in is not None:
                queue_s = service.route.queue_s
                self._until(service.route.response_s if queue_s is None else queue_s, "queue")
        except GatewayError as error:
            self.failed(error)

    @property
    def content_length(self) -> int | None:
        """Octets of content as the worker is to be told, None if not known yet."""
        length = self.request.length
        if length is None and self.spool is not None and self.request_side is REQUEST_DONE:
            return self.spool.length
        return length

    def whole_content(self) -> bytes | None:
        """All content if it is here and small, for interfaces that write everything at once."""
        if self.request_side is not REQUEST_DONE:
            return None
        whole = b"" if self.spool is None else self.spool.whole
        self.content_passed = whole is not None
        return whole

    def connected(self, call: Call) -> None:
        """The worker takes this request; content may flow where it was not written with the head."""
        self.call = call
        self.upstream = call.upstream
        if self.late == "queue":
            self._wait_for_response()
        if self.client_full:
            call.read(False)

    def pump(self) -> None:
        """The call has room for content (the interface calls this once its head is written)."""
        call = self.call
        if call is None or self.content_passed or self.response_side is RESPONSE_DONE:
            return
        if call.full:
            call.room()
            return
        spool = self.spool
        if spool is not None:
            while not call.full and (piece := spool.read()):
                call.content(piece)
            self._wait_for_response()
            if spool.rest:
                call.room()
            elif self.request_side is REQUEST_DONE:
                self.content_passed = True
                call.content_end()
            else:  # what had come before the worker was ready is passed on; the rest follows as it comes
                spool.close()
                self.spool = None
                self.request_side = STREAMING
                self.pump()
        elif self.request_side is STREAMING:
            if self.response_side is WAITING:  # now it is for the client to go on
                self.deadline, self.late = self.total_deadline, "total"
            self.client.read_content(True)

    def content(self, octets: bytes) -> None:
        """Some request content arrived."""
        side = self.request_side
        if self.response_side is RESPONSE_DONE or side is REQUEST_DONE:  # done: a local redirect has no use for it
            return
        if self.response_side is not TUNNEL:
            self.content_octets += len(octets)
            route = self.found.route if self.found else None
            if route is not None and self.content_octets > route.content_limit:
                self.failed(too_large(route.content_limit))
                return
        call = self.call
        ready = call is not None and not call.full
        if call is None or not ready or side is SPOOLING:  # kept: another worker may have to get it, too
            self._keep(octets)
            return
        call.content(octets)
        if call.full:
            self._wait_for_response()
            self.client.read_content(False)
            call.room()

    def _keep(self, octets: bytes) -> None:
        if self.spool is None:
            self.spool = Spool()
            self.request_side = SPOOLING
        try:
            self.spool.write(octets)
        except OSError as error:
            remedy = "free the disk of the temporary directory (TMPDIR)"
            if self.service is not None and self.service.interface.spools:
                remedy += ", or set request_buffering = false"
            self.failed(
                GatewayError(
                    500, "spool", f"request content could not be kept on disk: {error.strerror}", remedy,
                    side=Side.GATEWAY, close=True,
                )
            )  # fmt: skip

    def content_end(self, trailers: FieldLines = ()) -> None:
        """All request content has arrived."""
        side = self.request_side
        if side is REQUEST_DONE:
            return
        self.request_side = REQUEST_DONE
        self.trailers = trailers
        if self.response_side is RESPONSE_DONE:
            return
        self._wait_for_response()
        if side is SPOOLING and self.call is None:
            if self.attempts == 0:
                self.start_call()
        elif self.call is not None and self.spool is None:
            self.content_passed = True
            self.call.content_end()

    def client_lost(self) -> None:
        """The client left: nobody wants the answer."""
        if self.response_side is RESPONSE_DONE:
            return
        if not self.status:
            self.status = 499
        self._over(client_left=True)

    def client_room(self, room: bool) -> None:
        """Back-pressure: whether the client takes more of the response."""
        self.client_full = not room
        if self.call is not None:
            self.call.read(room)

    # ------------------------------------------------------------------ response side

    def take(self, events: Sequence[Response | LocalRedirect | Content | EndOfMessage]) -> None:
        """Deal with what a response reader found, in order."""
        for event in events:
            if self.response_side is RESPONSE_DONE:
                return
            kind = type(event)
            if kind is Content:
                self.response_content(event.data)  # type: ignore[union-attr]
            elif kind is Response:
                self.respond(event)  # type: ignore[arg-type]
            elif kind is EndOfMessage:
                self.response_end(event.trailers)  # type: ignore[union-attr]
            else:
                self.local_redirect(event)  # type: ignore[arg-type]
                return

    def respond(self, response: Response) -> None:
        """A response head; its fields are already fit for the client."""
        if response.status < 200:
            if response.status == 101:
                self._switch(response)
            else:
                self.client.interim(response)
            return
        self.response_side = RESPONDING
        self.status = response.status
        self.responded_at = self.site.turn.now
        self.deadline, self.late = self.total_deadline, "total"
        self.client.respond(response)

    def response_content(self, octets: Outgoing) -> None:
        self.response_octets += len(octets)
        self.client.content(octets)

    def response_end(self, trailers: FieldLines = ()) -> None:
        self._over()
        self.client.finished(trailers)

    def local_redirect(self, redirect: LocalRedirect) -> None:
        """RFC 3875 6.2.2: answer as if the client had asked for this with GET."""
        call, self.call = self.call, None
        if call is not None:
            call.abort()
        if self.service is not None:
            self.service.counts.left()
            self.service = None
        self.redirects += 1
        if self.redirects > LOCAL_REDIRECTS:
            self.failed(
                GatewayError(
                    500, "redirect-loop", f"more than {LOCAL_REDIRECTS} local redirects, last to {redirect.target!r}",
                    "the script redirects to itself; let it send an absolute Location", side=Side.UPSTREAM,
                )
            )  # fmt: skip
            return
        fields = tuple(f for f in self.request.fields if f[0].lower() not in _CONTENT_FIELDS)
        method = b"HEAD" if self.request.method == b"HEAD" else b"GET"
        old = self.request
        self.request = Request(method, redirect.target, fields, old.version, old.host, 0, keep_alive=old.keep_alive)
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        if self.request_side is not REQUEST_DONE:
            self.request_side = REQUEST_DONE
            self.client.read_content(False)
        self.attempts = self.content_octets = 0
        self.begin()

    def _switch(self, response: Response) -> None:
        """101: from here on octets pass as they are, both ways (RFC 9110 7.8)."""
        self.response_side = TUNNEL
        self.content_passed = False
        self.request_side = STREAMING
        self.status = 101
        self.deadline, self.late = self.total_deadline, "total"
        early = self.client.tunnel(response)
        if early:
            self.content(early)

    # ------------------------------------------------------------------ time

    def _wait_for_response(self) -> None:
        if self.response_side is WAITING and self.found is not None and self.queued_in is None:
            self._until(self.found.route.response_s, "response")

    def wait_for_more(self) -> None:
        """The worker said something, and has not finished: called at the end of such an input."""
        if self.response_side is RESPONDING and self.found is not None:
            self._until(self.found.route.read_s, "read")

    def _until(self, length_s: float, late: str) -> None:
        deadline = self.site.turn.now + length_s if length_s else math.inf
        if self.total_deadline < deadline:
            deadline, late = self.total_deadline, "total"
        self.deadline = deadline
        self.late = late
        if deadline < self.client.deadline:
            self.client.deadline = deadline

    def expired(self) -> None:
        """`deadline` has passed."""
        if self.client_full and self.late == "read":  # the client's own write timeout decides
            self.wait_for_more()
            return
        if self.call is None and self.attempts:
            self.failed(
                GatewayError(
                    503, "queue-timeout", "no worker became free in time",
                    "add workers, or find out what keeps them busy", retry_after_s=5,
                )
            )  # fmt: skip
            return
        what = {
            "response": "no response head came in time",
            "read": "the worker stopped in the middle of its response",
            "total": "the whole exchange took too long",
        }[self.late]
        self.failed(GatewayError(504, f"{self.late}-timeout", what, f"see why it is slow, or raise timeouts.{self.late}"))

    # ------------------------------------------------------------------ the end

    def failed(self, error: GatewayError) -> None:
        """The attempt failed: try again where that is safe, else tell the client."""
        if self.response_side is RESPONSE_DONE:
            return
        call, self.call = self.call, None
        if call is not None:
            call.abort()
        if self.response_side is WAITING and self._may_repeat(error):
            self.site.report_retry(self, error)
            self.start_call()
            return
        self.site.report_failure(self, error)
        if self.response_side is not WAITING:
            self._over()
            self.client.cut()
            return
        self.answer_error(error)

    def answer_error(self, error: GatewayError) -> None:
        """A short, plain page instead of the worker's response."""
        self.status = error.status
        self.responded_at = self.site.turn.now
        response, page = self.site.error_response(self, error)
        if error.close:
            self.client.close_after()
        self.response_side = RESPONDING
        self.client.respond(response)
        if page:
            self.response_octets += len(page)
            self.client.content(page)
        self._over()
        self.client.finished(END.trailers)

    def _may_repeat(self, error: GatewayError) -> bool:
        elsewhere = len(self.avoid) if error.retry is Retry.SAFE and len(self.avoid) > 1 else 0  # who is left may be well
        if error.retry is Retry.NO or self.attempts >= ATTEMPTS + elsewhere or self.site.turn.now >= self.deadline:
            return False
        kept = self.spool.length if self.spool is not None else 0
        if kept != self.content_octets:  # some has flowed that can't be had again
            return False
        if error.retry is Retry.SAFE:
            return self.attempts > 0
        return self.request_side is REQUEST_DONE and self.request.idempotent

    def _over(self, *, client_left: bool = False) -> None:
        call, self.call = self.call, None
        if call is not None:
            call.abort(client_left=client_left)
        if self.queued_in is not None:
            self.queued_in.remove(self)
            self.queued_in = None
        if self.spool is not None:
            self.spool.close()
        self.response_side = RESPONSE_DONE
        self.site.log_access(self)


_CONTENT_FIELDS: Final = frozenset((b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"))

"""FastCGI 1.0: the gateway's side of a connection, and the application's side.

Promise: octets of one request are never reported under another; memory held is one record at most
(and, for an application, the meta-variables under `params_limit_bytes`).
Must never know: sockets, HTTP, what a meta-variable means. Next: `cgi.py`, which reads what STDOUT carries.

Sections quoted are those of the FastCGI Specification, version 1.0 (Open Market, 29 April 1996).
After a RemoteProtocolError the connection can't be brought back into step: close it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocols.fastcgi_events import (
    Abort,
    ApplicationEvent,
    Begin,
    EndRequest,
    GatewayEvent,
    Skipped,
    Stderr,
    Stdin,
    StdinEnd,
    Stdout,
    StdoutEnd,
    UnknownType,
    Values,
)
from protocols.fastcgi_records import (  # fmt: skip
    ABORT_REQUEST,
    BEGIN_REQUEST,
    DATA,
    END,
    END_REQUEST,
    GET_VALUES,
    GET_VALUES_RESULT,
    HEADER,
    KEEP_CONN,
    LENGTHS,
    LIMIT_NAMES,
    LONG,
    MAX_CONTENT_BYTES,
    PADDING,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
    VERSION_1,
    ProtocolStatus,
    RecordReader,
    RecordType,
    Role,
    decode_pairs,
    encode_pair,
    frame,
    long_params,
    misplaced,
    record,
    stream,
)
from protocols.message import LocalProtocolError, RemoteProtocolError

_STATUSES: Final = tuple(ProtocolStatus)
_RESPONDER: Final = Role.RESPONDER
FEWEST_IDS: Final = 255
"""So many ids take turns at least, and always four times as many as are active."""
_FRAMES: Final = 4096
_frames: dict[int, tuple[bytes, bytes, bytes]] = {}
"""By request id, as far as that is below _FRAMES: of Responders on connections that are kept."""
JOIN_BYTES: Final = 4096
"""Pieces of STDOUT below this are copied into one event; larger ones are cheaper as events of their own."""

# ---------------------------------------------------------------------- the gateway's side


class _Sending(enum.Enum):
    """What we still owe to a request that is active."""

    STDIN = "stdin"
    NOTHING = "nothing"
    ABORTED = "aborted"


_SENDING_STDIN: Final = _Sending.STDIN
_SENDING_NOTHING: Final = _Sending.NOTHING
_ABORTED: Final = _Sending.ABORTED


class GatewayConnection:
    """One connection to a worker, which may carry several requests: encodes what we send, decodes what comes.

    `max_requests` is above 1 where the worker said FCGI_MPXS_CONNS. A request id is used again only
    after its END_REQUEST, and the ids take turns: the standard wants them small (3.3), but if the
    next request always took the id just freed, a record that comes too late would be taken for it.
    """

    __slots__ = ("_active", "_last_id", "_out", "_reader", "_stdout_ended", "max_requests")

    def __init__(self, max_requests: int = 1) -> None:
        self.max_requests = max_requests
        self._active: dict[int, _Sending] = {}
        self._stdout_ended: set[int] = set()
        self._last_id = 0
        self._reader = RecordReader()
        self._out: list[bytes] = []

    @property
    def active(self) -> int:
        """Requests without END_REQUEST so far, aborted ones too."""
        return len(self._active)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight, not even part of a record: fit for reuse."""
        return not self._active and self._reader.idle

    def begin(self, role: Role, params: bytes, keep_connection: bool, content: bytes | None = None) -> int:
        """Begin a request; its id. `params` are pairs made by `encode_pair`, joined.

        `content` is all of it where it is at hand (b"" for none); None: `stdin` and `stdin_end` follow.
        Raises LocalProtocolError where `max_requests` are active.
        """
        active = self._active
        if len(active) >= self.max_requests:
            raise LocalProtocolError(f"{len(active)} requests are active, the connection carries no more")
        ids = min(0xFFFF, max(FEWEST_IDS, 4 * len(active)))
        request_id = self._last_id % ids + 1
        while request_id in active:
            request_id = request_id % ids + 1
        self._last_id = request_id
        active[request_id] = _SENDING_STDIN if content is None else _SENDING_NOTHING
        if keep_connection and role is _RESPONDER and request_id < _FRAMES:  # nearly all of them
            known = _frames.get(request_id)
            if known is None:
                known = _frames[request_id] = frame(request_id, role, KEEP_CONN)
        else:
            known = frame(request_id, role, KEEP_CONN if keep_connection else 0)
        begin, params_begin, no_more = known
        length = len(params)
        if 0 < length <= MAX_CONTENT_BYTES:
            padding = -length & 7
            pieces = [begin, params_begin, LENGTHS.pack(length, padding), params, PADDING[padding]]
        else:
            pieces = [begin, long_params(request_id, params) if params else b""]
        if content == b"":  # nearly all of them
            pieces.append(no_more)
        else:
            pieces.append(no_more[:8])
            if content:
                pieces += (stream(STDIN, request_id, content), no_more[8:])
        self._out.append(b"".join(pieces))
        return request_id

    def stdin(self, request_id: int, octets: bytes) -> None:
        """Send some content. Raises LocalProtocolError once it was ended, aborted, or END_REQUEST came."""
        if self._active.get(request_id) is not _SENDING_STDIN:
            raise LocalProtocolError(f"request {request_id} takes no content any more")
        if octets:
            self._out.append(stream(STDIN, request_id, octets))

    def stdin_end(self, request_id: int) -> None:
        """The content is complete. Raises as `stdin`."""
        if self._active.get(request_id) is not _SENDING_STDIN:
            raise LocalProtocolError(f"request {request_id} takes no content any more")
        self._active[request_id] = _SENDING_NOTHING
        self._out.append(HEADER.pack(VERSION_1, STDIN, request_id, 0, 0))

    def abort(self, request_id: int) -> None:
        """Ask the worker to stop (5.4); what it still sends is dropped, its EndRequest is reported.

        Without effect on a request that has ended or was aborted before.
        """
        if self._active.get(request_id, _ABORTED) is not _ABORTED:
            self._active[request_id] = _ABORTED
            self._out.append(HEADER.pack(VERSION_1, ABORT_REQUEST, request_id, 0, 0))

    def get_values(self, names: Sequence[bytes] = LIMIT_NAMES) -> None:
        """Ask what the worker can do (4.1); Values or UnknownType is the answer, if there is one."""
        self._out.append(record(GET_VALUES, 0, b"".join([encode_pair(name, b"") for name in names])))

    def outgoing(self) -> list[bytes]:
        """Hand over what is ready to be written, in order."""
        out = self._out
        self._out = []
        return out

    def receive(self, octets: bytes) -> list[GatewayEvent]:
        """Decode what the worker sent; a response's octets are reported as they come.

        Raises RemoteProtocolError where the worker breaks a rule.
        """
        events: list[GatewayEvent] = []
        run: list[bytes] = []  # all octets of the Stdout that stands last, once there are two pieces of it
        active = self._active
        for kind, request_id, content in self._reader.receive(octets):
            sending = active.get(request_id)
            if kind == STDOUT and sending is not None:
                if sending is _ABORTED:
                    continue
                last = events[-1] if events and 0 < len(content) < JOIN_BYTES else None
                if type(last) is Stdout and last.request_id == request_id:
                    if not run:
                        run.append(last.octets)
                    run.append(content)
                    continue
                if request_id in self._stdout_ended:
                    raise RemoteProtocolError("STDOUT goes on after the empty record that ends it")
            if run:
                events[-1] = self._joined(events[-1], run)
                run = []
            if sending is None:
                self._outside(kind, request_id, content, events)
            elif kind == STDOUT:
                if content:
                    events.append(Stdout(request_id, content))
                else:
                    self._stdout_ended.add(request_id)
                    events.append(StdoutEnd(request_id))
            elif kind == END_REQUEST:
                # reserved octets after the eighth are somebody's extension, fewer are no END_REQUEST
                if len(content) < 8:
                    raise RemoteProtocolError(f"END_REQUEST has {len(content)} octets, not 8")
                status = content[4]
                if status > 3:
                    raise RemoteProtocolError(f"protocolStatus {status} is unknown")
                del active[request_id]
                self._stdout_ended.discard(request_id)
                events.append(EndRequest(request_id, LONG.unpack_from(content)[0], _STATUSES[status]))
            elif kind == STDERR:
                if content and sending is not _ABORTED:
                    events.append(Stderr(request_id, content))
            else:
                raise misplaced(kind, request_id, "worker")
        if run:
            events[-1] = self._joined(events[-1], run)
        return events

    @staticmethod
    def _joined(last: GatewayEvent, run: list[bytes]) -> Stdout:
        assert type(last) is Stdout
        return Stdout(last.request_id, b"".join(run))

    def _outside(self, kind: int, request_id: int, content: bytes, events: list[GatewayEvent]) -> None:
        """A record that belongs to no active request."""
        if kind == GET_VALUES_RESULT and not request_id:
            events.append(Values(dict(decode_pairs(content))))
        elif kind == UNKNOWN_TYPE and not request_id:
            if len(content) < 8:
                raise RemoteProtocolError(f"UNKNOWN_TYPE has {len(content)} octets, not 8")
            events.append(UnknownType(content[0]))
        elif kind in (END_REQUEST, STDOUT, STDERR) if request_id else kind > UNKNOWN_TYPE:
            # Only an application answers with UNKNOWN_TYPE (4.2): an answer from us would be one of
            # the types that it does not know, and so on for ever.
            skipped = Skipped(request_id, kind)
            if not events or events[-1] != skipped:
                events.append(skipped)
        else:
            raise misplaced(kind, request_id, "worker")


# ---------------------------------------------------------------------- the application's side


@dataclass(slots=True)
class _Serving:
    """A request that an application has not ended."""

    role: Role
    keep_connection: bool
    params: list[bytes] | None
    """None once they are complete."""
    params_bytes: int = 0
    stdin_ended: bool = False
    stderr_used: bool = False


class ApplicationConnection:
    """One connection from a gateway: decodes requests, encodes responses.

    It answers by itself what needs no application: GET_VALUES from `values`, management records
    that it does not know, a role not in `roles`, more than `max_requests` requests at a time or any
    while `overloaded`, and an abort that comes before the meta-variables are complete.
    """

    __slots__ = (
        "_finished", "_out", "_reader", "_serving", "max_requests", "overloaded", "params_limit_bytes", "roles", "values",
    )  # fmt: skip

    def __init__(
        self,
        *,
        params_limit_bytes: int = 1 << 20,
        max_requests: int = 1,
        values: Mapping[bytes, bytes] | None = None,
        roles: Collection[Role] = (Role.RESPONDER,),
    ) -> None:
        self.params_limit_bytes = params_limit_bytes
        self.max_requests = max_requests
        self.overloaded = False
        """Set it to have every new request rejected, so that the gateway sends it elsewhere."""
        self.values: Mapping[bytes, bytes] = values or {}
        self.roles = frozenset(roles) - {Role.FILTER}  # the DATA stream of a Filter is not read here
        self._serving: dict[int, _Serving] = {}
        self._reader = RecordReader()
        self._out: list[bytes] = []
        self._finished = False

    @property
    def active(self) -> int:
        """Requests begun and not ended."""
        return len(self._serving)

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here, not even part of a record."""
        return not self._serving and self._reader.idle

    @property
    def finished(self) -> bool:
        """Whether it is for us to close the connection, once all is written (3.5)."""
        return self._finished and not self._serving

    def outgoing(self) -> list[bytes]:
        """Hand over what is ready to be written, in order."""
        out = self._out
        self._out = []
        return out

    def receive(self, octets: bytes) -> list[ApplicationEvent]:
        """Decode what the gateway sent; answers of our own go to `outgoing`.

        Raises RemoteProtocolError where the gateway breaks a rule, or for too long meta-variables.
        """
        events: list[ApplicationEvent] = []
        for kind, request_id, content in self._reader.receive(octets):
            serving = self._serving.get(request_id)
            if not request_id:
                self._management(kind, content)
            elif kind == BEGIN_REQUEST:
                self._begin(request_id, content, serving)
            elif not ABORT_REQUEST <= kind <= DATA or kind in (END_REQUEST, STDOUT, STDERR):
                raise misplaced(kind, request_id, "gateway")
            elif serving is None:
                continue  # inactive: ignored (3.3)
            elif kind == PARAMS:
                if (begin := self._params(request_id, serving, content)) is not None:
                    events.append(begin)
            elif kind == ABORT_REQUEST:
                if serving.params is None:
                    events.append(Abort(request_id))
                else:
                    self.end(request_id)
            elif kind == DATA or serving.params is not None or serving.stdin_ended:
                name = RecordType(kind).name
                raise RemoteProtocolError(f"{name} of request {request_id} is out of its turn")
            elif content:
                events.append(Stdin(request_id, content))
            else:
                serving.stdin_ended = True
                events.append(StdinEnd(request_id))
        return events

    def _management(self, kind: int, content: bytes) -> None:
        if kind == GET_VALUES:
            known = [(name, self.values[name]) for name, _ in decode_pairs(content) if name in self.values]
            answer = b"".join([encode_pair(name, value) for name, value in dict(known).items()])
            self._out.append(record(GET_VALUES_RESULT, 0, answer))
        elif kind > UNKNOWN_TYPE or not kind:
            self._out.append(record(UNKNOWN_TYPE, 0, bytes((kind,)) + bytes(7)))
        else:
            raise misplaced(kind, 0, "gateway")

    def _begin(self, request_id: int, content: bytes, serving: _Serving | None) -> None:
        if serving is not None:
            raise RemoteProtocolError(f"request {request_id} begins and has not ended")
        if len(content) < 8:
            raise RemoteProtocolError(f"BEGIN_REQUEST has {len(content)} octets, not 8")
        role = content[0] << 8 | content[1]
        keep_connection = bool(content[2] & KEEP_CONN)
        if self.overloaded:
            self._reject(request_id, keep_connection, ProtocolStatus.OVERLOADED)
        elif len(self._serving) >= self.max_requests:
            self._reject(request_id, keep_connection, ProtocolStatus.CANT_MPX_CONN)
        elif role not in self.roles:
            self._reject(request_id, keep_connection, ProtocolStatus.UNKNOWN_ROLE)
        else:
            self._serving[request_id] = _Serving(Role(role), keep_connection, [])

    def _reject(self, request_id: int, keep_connection: bool, status: ProtocolStatus) -> None:
        self._out.append(record(END_REQUEST, request_id, LONG.pack(0) + bytes((status, 0, 0, 0))))
        if not keep_connection:
            self._finished = True

    def _params(self, request_id: int, serving: _Serving, content: bytes) -> Begin | None:
        params = serving.params
        if params is None:
            raise RemoteProtocolError("PARAMS go on after the empty record that ends them")
        if content:
            serving.params_bytes += len(content)
            if serving.params_bytes > self.params_limit_bytes:
                raise RemoteProtocolError(f"the meta-variables are longer than {self.params_limit_bytes} octets", 431)
            params.append(content)
            return None
        serving.params = None
        return Begin(request_id, serving.role, serving.keep_connection, decode_pairs(b"".join(params)))

    def stdout(self, request_id: int, octets: bytes) -> None:
        """Send octets of the response. Raises LocalProtocolError if the request is not active."""
        self._active(request_id)
        if octets:
            self._out.append(stream(STDOUT, request_id, octets))

    def stderr(self, request_id: int, octets: bytes) -> None:
        """Send octets for the gateway's error log. Raises as `stdout`."""
        self._active(request_id).stderr_used = True
        if octets:
            self._out.append(stream(STDERR, request_id, octets))

    def end(
        self,
        request_id: int,
        app_status: int = 0,
        protocol_status: ProtocolStatus = ProtocolStatus.REQUEST_COMPLETE,
    ) -> None:
        """End the streams and the request (5.5, 6.2). Raises as `stdout`."""
        serving = self._active(request_id)
        if serving.stderr_used:
            self._out.append(HEADER.pack(VERSION_1, STDERR, request_id, 0, 0))
        self._out.append(
            END.pack(
                VERSION_1, STDOUT, request_id, 0, 0,
                VERSION_1, END_REQUEST, request_id, 8, 0, app_status, protocol_status,
            )
        )  # fmt: skip
        del self._serving[request_id]
        if not serving.keep_connection:
            self._finished = True

    def _active(self, request_id: int) -> _Serving:
        serving = self._serving.get(request_id)
        if serving is None:
            raise LocalProtocolError(f"request {request_id} is not active")
        return serving

"""A client that speaks to one worker or script directly, as a web server would: one call, one result.

Promise: blocks no longer than `timeout_s`; every failure tells apart who refused, who was slow and who
broke a rule; the meta-variables come from the same maker as the gateway's own.
Must never know: the gateway's config, routes and event loop. Next: `gateway/cli/call.py`.

    from gateway.client import call
    result = call("fastcgi://127.0.0.1:9000/ping", script_filename="/ping")
    result.outcome(), result.content
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway import __version__
from gateway.ends import Address
from gateway.processes.listen_socket import UNIX_PATH_BYTES
from gateway.processes.reap import exit_in_words
from protocols.cgi import ScriptResponseReader, meta_variables
from protocols.fastcgi import GatewayConnection
from protocols.fastcgi_events import EndRequest, Stderr, Stdout
from protocols.fastcgi_records import HEADER, ProtocolStatus, RecordType, Role
from protocols.fastcgi_records import encode_pair as fastcgi_pair
from protocols.http1 import RequestWriter, ResponseReader, tokeniser
from protocols.message import (
    Content,
    EndOfMessage,
    FieldLine,
    LocalProtocolError,
    LocalRedirect,
    Peer,
    RemoteProtocolError,
    Request,
    Response,
)
from protocols.scgi import encode_pair as scgi_pair
from protocols.scgi import encode_request
from protocols.target import Place, Target, encode_path, parse, split_suffix

SOFTWARE = f"gateway-call/{__version__}".encode()
INTERFACES = ("fastcgi", "scgi", "http", "cgi")
LONGEST_S = 1_000_000
"""poll counts milliseconds in 32 bits."""


class Outcome(enum.IntEnum):
    """How a call ended; the numbers are the exit codes of `gateway call`."""

    OK = 0
    USAGE = 2
    """The call itself was wrong; nothing was sent."""
    REFUSED = 3
    """Nobody listens there, or the script can't be run."""
    BUSY = 4
    """Connecting took too long, the backlog is full, or the worker said OVERLOADED."""
    TIMEOUT = 5
    """Connected, and no whole response in time."""
    PROTOCOL = 6
    """What came is not a response in the protocol spoken."""
    NOT_FOUND = 7
    """The worker answers, and does not know the path: status 404."""
    STATUS = 8
    """Another status above the highest that was to count as success."""


class CallError(Exception):
    """No response: which way it failed, what happened, what to do, and what came until then."""

    def __init__(self, outcome: Outcome, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.outcome = outcome
        self.what = what
        self.remedy = remedy
        self.records: list[str] = []
        self.stderr = b""
        self.app_status: int | None = None
        """These three are as in a Result."""


@dataclass
class Result:
    """A whole response, and what went over the wire."""

    status: int = 0
    """0 only until the response head has come; a local redirect counts as 302."""
    reason: bytes = b""
    fields: Sequence[FieldLine] = ()
    content: bytes = b""
    stderr: bytes = b""
    app_status: int | None = None
    """FastCGI: appStatus; CGI: the exit code, negative for a signal; else None."""
    variables: dict[bytes, bytes] = field(default_factory=dict)
    """The meta-variables that were sent; none for HTTP."""
    records: list[str] = field(default_factory=list)
    """One line for each thing sent (`>`) and received (`<`)."""
    _pieces: list[bytes] = field(default_factory=list, repr=False)

    def outcome(self, max_status: int = 399) -> Outcome:
        """OK for a status up to `max_status`; else NOT_FOUND for 404, and STATUS."""
        if self.status <= max_status:
            return Outcome.OK
        return Outcome.NOT_FOUND if self.status == 404 else Outcome.STATUS

    def take(self, events: Iterable[object]) -> bool:
        """Note what a reader reports; whether the message is complete."""
        for event in events:
            if isinstance(event, Response):
                self.status, self.reason, self.fields = event.status, event.reason, event.fields
            elif isinstance(event, LocalRedirect):
                self.status, self.reason, self.fields = 302, b"Found", ((b"Location", event.target),)
            elif isinstance(event, Content):
                self._pieces.append(event.data)
            elif isinstance(event, EndOfMessage):
                self.content = b"".join(self._pieces)
                return True
        return False


@dataclass(frozen=True)
class Call:
    """All that a call needs, checked."""

    interface: str
    address: Address
    """Of a worker; the `path` of a script."""
    request: Request
    target: Target
    content: bytes
    place: Place
    environment: Sequence[tuple[bytes, bytes]]
    deadline: float

    def variables(self) -> dict[bytes, bytes]:
        """The meta-variables: a client on this machine asks a server that listens at the worker's port."""
        port = b"%d" % (self.address.port or 80)
        return meta_variables(
            self.request, self.target, self.place, Peer(b"127.0.0.1", b"", b"127.0.0.1", port, False),
            software=SOFTWARE, environment=self.environment, content_length=len(self.content),
            authorization=True,
        )  # fmt: skip


def call(
    target: str,
    *,
    method: str = "GET",
    path: str | None = None,
    fields: Iterable[FieldLine] = (),
    content: bytes = b"",
    environment: Iterable[tuple[bytes, bytes]] = (),
    script_name: str | None = None,
    script_filename: str | None = None,
    root: str | None = None,
    timeout_s: float = 10.0,
) -> Result:
    """Send one request and return the whole response. Raises CallError.

    target           fastcgi://HOST:PORT/PATH, scgi://..., http://...; fastcgi+unix:///SOCKET and the like;
                     cgi:SCRIPT
    path             path and query, where the target has no place for them
    environment      meta-variables that are added, or replace the usual ones
    script_name      SCRIPT_NAME; the rest of the path becomes PATH_INFO
    script_filename  SCRIPT_FILENAME; then SCRIPT_NAME is the whole path, as php-fpm wants it for its
                     status page
    root             document root: SCRIPT_FILENAME is root + path, cut after ".php"
    timeout_s        for everything together
    """
    result = Result()
    try:
        if not 0 < timeout_s <= LONGEST_S:
            raise CallError(Outcome.USAGE, f"{timeout_s:g} s is no time to wait", f"above 0, and {LONGEST_S:,} at most")
        try:
            prepared = _prepare(
                target, method, path, list(fields), content, list(environment), script_name, script_filename,
                root, time.monotonic() + timeout_s,
            )  # fmt: skip
        except UnicodeEncodeError as error:
            raise CallError(Outcome.USAGE, f"{error.object!r} cannot be sent: it is no text") from None
        try:
            _SPEAK[prepared.interface](prepared, result)
        except RemoteProtocolError as error:
            raise CallError(
                Outcome.PROTOCOL, error.detail, f"see whether it is {prepared.interface} that is spoken there"
            ) from None
        return result
    except CallError as error:
        error.records, error.stderr, error.app_status = result.records, result.stderr, result.app_status
        raise


# ---------------------------------------------------------------------- before anything is sent


def _prepare(
    text: str, method: str, path: str | None, fields: list[FieldLine], content: bytes,
    environment: list[tuple[bytes, bytes]], script_name: str | None, script_filename: str | None,
    root: str | None, deadline: float,
) -> Call:  # fmt: skip
    for given in (text, script_name, script_filename, root):
        if given and "\0" in given:
            raise CallError(Outcome.USAGE, f"{given!r} has a NUL in it")
    for name, value in environment:
        if not name or b"=" in name or b"\0" in name + value:
            raise CallError(Outcome.USAGE, f"{name!r} = {value!r} is no meta-variable")
    interface, address, host, in_target = _parse_target(text)
    if path is not None and in_target:
        raise CallError(Outcome.USAGE, f"two paths: {in_target} in the target, and {path}")
    if interface == "cgi":
        script_filename = script_filename or address.path
        script_name = "/" + os.path.basename(address.path) if script_name is None else script_name
        raw = encode_path(os.fsencode(script_name)) + os.fsencode(path or "")
    else:
        raw = os.fsencode(path or in_target or "/")
    names = {name.lower() for name, _ in fields}
    defaults = [(b"Host", host.encode()), (b"User-Agent", SOFTWARE), (b"Accept", b"*/*")]
    fields = [line for line in defaults if line[0].lower() not in names] + fields
    host_value = next(value for name, value in fields if name.lower() == b"host")
    try:
        parsed = parse(method.encode(), raw)
        # Built for every interface: what HTTP can't say, a web server would never have let through.
        RequestWriter().head(method.encode(), raw, fields, len(content))
    except (LocalProtocolError, RemoteProtocolError) as error:
        raise CallError(Outcome.USAGE, error.detail) from None
    if interface == "http" and (environment or script_name is not None or script_filename or root):
        raise CallError(Outcome.USAGE, "HTTP carries no meta-variables", "leave the flags for them out")
    place = _place(parsed.path, script_name, script_filename, root)
    request = Request(method.encode(), raw, fields, host=host_value, length=len(content))
    return Call(interface, address, request, parsed, content, place, environment, deadline)


def _parse_target(text: str) -> tuple[str, Address, str, str]:
    """(interface, address, value for Host, path and query) of a target."""
    scheme, _, rest = text.partition(":")
    interface, _, kind = scheme.partition("+")
    if interface not in INTERFACES or kind not in ("", "unix") or not rest:
        raise CallError(
            Outcome.USAGE, f"{text!r} is not a target",
            "it is like fastcgi://127.0.0.1:9000/path, scgi+unix:///run/app.sock, http://..., cgi:script",
        )  # fmt: skip
    if interface == "cgi":
        return interface, Address(path=os.path.abspath(rest)), "localhost", ""
    if kind:
        socket_path = rest.removeprefix("//")
        if len(os.fsencode(socket_path)) > UNIX_PATH_BYTES:
            raise CallError(Outcome.USAGE, f"the path of a unix socket has {UNIX_PATH_BYTES} octets at most")
        return interface, Address(path=socket_path), "localhost", ""
    try:
        parts = urlsplit(text)
        port = parts.port or (80 if interface == "http" else 0)
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError as error:  # UnicodeError, too: "a..b" has an empty label
        raise CallError(Outcome.USAGE, f"{text!r}: {error}") from None
    if not host or not port:
        raise CallError(Outcome.USAGE, f"{text!r} has no host and port", f"like {interface}://127.0.0.1:9000/")
    query = f"?{parts.query}" if "?" in text else ""
    authority = f"[{host}]" if ":" in host else host
    return interface, Address(host, port), authority + (f":{parts.port}" if parts.port else ""), parts.path + query


def _place(path: bytes, script_name: str | None, script_filename: str | None, root: str | None) -> Place:
    root_octets = os.fsencode(root or "").rstrip(b"/")
    if script_name is not None:
        name = os.fsencode(script_name)
        if not path.startswith(name):
            raise CallError(Outcome.USAGE, f"the path does not begin with the script name {script_name!r}")
        info = path[len(name) :]
    elif script_filename or root:
        name, info = split_suffix(path, b".php") or (path, b"")
    else:  # as a route at / without document root
        name, info = b"", path
    filename = os.fsencode(script_filename) if script_filename else root_octets + name if root else b""
    return Place(name, info, filename, root_octets)


# ---------------------------------------------------------------------- over a socket


def _connect(call: Call) -> socket.socket:
    address = call.address
    remaining_s = max(0.001, call.deadline - time.monotonic())
    try:
        if address.path:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(remaining_s)
                sock.connect(address.path)
            except OSError:
                sock.close()
                raise
        else:
            sock = socket.create_connection((address.host, address.port), remaining_s)
        sock.setblocking(False)
        return sock
    except (TimeoutError, BlockingIOError) as error:  # a full backlog: TCP waits, a unix socket says EAGAIN
        raise CallError(
            Outcome.BUSY, f"{address} accepts no connection: {error.strerror or 'too slow'}",
            "its backlog is full: add workers, or see why they are stuck",
        ) from None  # fmt: skip
    except OSError as error:
        raise CallError(
            Outcome.REFUSED, f"cannot connect to {address}: {error.strerror or error}",
            "see whether the worker runs, and whether this is its address",
        ) from None  # fmt: skip


def _converse(call: Call, octets: bytes, received: Callable[[bytes], bool]) -> None:
    """Write and read at the same time, until `received` says that it has all; b"" tells it the end."""
    with _connect(call) as sock:
        unsent = memoryview(octets)
        poller = select.poll()
        while True:
            poller.register(sock, select.POLLIN | (select.POLLOUT if unsent else 0))
            remaining_s = call.deadline - time.monotonic()
            if remaining_s <= 0 or not poller.poll(remaining_s * 1000):
                raise CallError(
                    Outcome.TIMEOUT, f"{call.address} sent no whole response in time",
                    "all its workers may be busy, or the request is slow; --timeout gives it longer",
                )  # fmt: skip
            try:
                if unsent:
                    unsent = unsent[sock.send(unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                unsent = unsent[:0]  # it may have answered before it closed
            try:
                arrived = sock.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError as error:
                raise CallError(Outcome.PROTOCOL, f"{call.address} broke off: {error.strerror}") from None
            if received(arrived):
                return
            if not arrived:
                raise CallError(
                    Outcome.PROTOCOL, f"{call.address} closed the connection inside its response",
                    "see the worker's own log",
                )  # fmt: skip


class _RecordLines:
    """Writes a line for each FastCGI record in a stream."""

    def __init__(self, mark: str, lines: list[str]) -> None:
        self.mark = mark
        self.lines = lines
        self.held = b""
        self.skip = 0

    def note(self, octets: bytes) -> None:
        self.held += octets[self.skip :]
        self.skip = max(0, self.skip - len(octets))
        position = 0
        while len(self.held) - position >= HEADER.size:
            _, kind, request_id, length, padding = HEADER.unpack_from(self.held, position)
            name = RecordType(kind).name if kind in RecordType._value2member_map_ else f"type {kind}"
            self.lines.append(f"{self.mark} {name} id {request_id}, {length} octets, padding {padding}")
            position += HEADER.size + length + padding
        self.skip += max(0, position - len(self.held))
        self.held = self.held[position:]


def _fastcgi(call: Call, result: Result) -> None:
    result.variables = call.variables()
    connection = GatewayConnection()
    reader = ScriptResponseReader(request_method=call.request.method)
    params = b"".join([fastcgi_pair(*pair) for pair in result.variables.items()])
    connection.begin(Role.RESPONDER, params, False, call.content)
    octets = b"".join(connection.outgoing())
    _RecordLines(">", result.records).note(octets)
    incoming = _RecordLines("<", result.records)

    def received(octets: bytes) -> bool:
        incoming.note(octets)
        for event in connection.receive(octets):
            if isinstance(event, Stdout):
                result.take(reader.receive(event.octets))
            elif isinstance(event, Stderr):
                result.stderr += event.octets
            elif isinstance(event, EndRequest):
                result.records.append(f"< appStatus {event.app_status}, protocolStatus {event.protocol_status.name}")
                result.app_status = event.app_status
                if event.protocol_status is not ProtocolStatus.REQUEST_COMPLETE:
                    busy = event.protocol_status is ProtocolStatus.OVERLOADED
                    raise CallError(
                        Outcome.BUSY if busy else Outcome.PROTOCOL,
                        f"{call.address} rejected the request: {event.protocol_status.name}",
                    )
                return result.take(reader.receive_eof())
        return False

    _converse(call, octets, received)


def _scgi(call: Call, result: Result) -> None:
    result.variables = call.variables()
    reader = ScriptResponseReader(request_method=call.request.method)
    pairs = b"".join([scgi_pair(*pair) for pair in result.variables.items()])
    head = encode_request(pairs, len(call.content))
    result.records.append(f"> netstring of {len(head)} octets, content of {len(call.content)} octets")

    def received(octets: bytes) -> bool:
        result.records.append(f"< {len(octets)} octets" if octets else "< end of file")
        return result.take(reader.receive(octets) if octets else reader.receive_eof())

    _converse(call, head + call.content, received)


def _http(call: Call, result: Result) -> None:
    writer = RequestWriter()
    request = call.request
    fields = [*request.fields, (b"Connection", b"close")]
    head = writer.head(request.method, request.target, fields, len(call.content))
    result.records += [f"> {line}" for line in head.decode("latin-1").split("\r\n")[:-2]]
    reader = ResponseReader(tokeniser())
    reader.expect(request.method)

    def received(octets: bytes) -> bool:
        events: list[Any] = list(reader.receive(octets) if octets else reader.receive_eof())
        for event in events:
            if isinstance(event, Response):
                result.records.append(f"< HTTP/1.1 {event.status} {event.reason.decode('latin-1')}")
                result.records += [f"< {b': '.join(line).decode('latin-1')}" for line in event.fields]
        return result.take(events)

    _converse(call, head + call.content, received)


# ---------------------------------------------------------------------- as a process


def _cgi(call: Call, result: Result) -> None:
    script = call.address.path
    result.variables = {b"PATH": b"/usr/local/bin:/usr/bin:/bin", **call.variables()}
    result.records.append(f"> {script} in {os.path.dirname(script)}, content of {len(call.content)} octets")
    reader = ScriptResponseReader(nph=os.path.basename(script).startswith("nph-"), request_method=call.request.method)
    interrupts: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    # Ctrl-C while the script is being started would leave it behind with nobody to end it: it is put off
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number)) if ours else None
    try:
        process = subprocess.Popen(
            [script], env=result.variables, cwd=os.path.dirname(script), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise CallError(
            Outcome.REFUSED, f"cannot run {script}: {error.strerror}",
            "it must exist, be executable (chmod +x) and begin with #! and an interpreter that exists",
        ) from None  # fmt: skip
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
    with process:
        try:
            if interrupts:
                raise KeyboardInterrupt
            stdout, result.stderr = process.communicate(call.content, call.deadline - time.monotonic())
        except BaseException as error:  # Ctrl-C, too: it does not reach a session of its own
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            result.stderr = error.stderr or b""
            raise CallError(
                Outcome.TIMEOUT, f"{script} did not end in time; it was killed", "--timeout gives it longer"
            ) from None
    result.app_status = code = process.returncode
    result.records.append(f"< {len(stdout)} octets, exit code {code}")
    ended = f"{script} {exit_in_words(code)}"
    if code < 0:  # whatever it has printed, there is no telling whether it is all
        raise CallError(Outcome.PROTOCOL, ended)
    try:
        result.take(reader.receive(stdout) if stdout else ())
        result.take(reader.receive_eof())
    except RemoteProtocolError as error:
        raise CallError(
            Outcome.PROTOCOL, f"{ended}: {error.detail}", "a response is header fields, an empty line, content"
        ) from None


_SPEAK: dict[str, Callable[[Call, Result], None]] = {
    "fastcgi": _fastcgi, "scgi": _scgi, "http": _http, "cgi": _cgi,
}  # fmt: skip

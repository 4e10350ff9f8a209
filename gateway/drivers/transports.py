"""The streams that an event loop moves: an end's octets in and out of the loop's own transports.

Promise: the contract of `gateway/ends.py`; back-pressure both ways; the loop joins the writes of one iteration.
Must never know: HTTP, routes, workers. Next: `event.py`, whose streams they are; `wires.py` for all others.
"""

from __future__ import annotations

import _socket
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from gateway.drivers.wires import LINGER_S, READ_BYTES, RESET, SENDFILE_BYTES, DescriptorWire, drop, shut
from gateway.ends import OPEN, Close, End, FileSlice, Outgoing, SocketName

if TYPE_CHECKING:
    from gateway.drivers.event import EventDriver

HIGH_WATER: Final = 64 * 1024
JOIN_BYTES: Final = 16 * 1024
"""Content up to this is copied behind its head, to be one write."""


def _name(transport: Any, which: str) -> SocketName:
    name = transport.get_extra_info(which)
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)


class StreamWire:
    """A socket that lives long: the loop's own transport moves its octets (an asyncio.Protocol in all but its base,
    for which the compiler would make it slower)."""

    __slots__ = ("blocked", "driver", "end", "opened", "reading", "slices", "transport", "_half")

    def __init__(self, driver: EventDriver, end: End, *, opened: bool = False) -> None:
        self.driver = driver
        self.end = end
        self.opened = opened
        """Whether it leads to a worker, by an order; else a client opened it."""
        self.transport: Any = None
        self.reading = True
        self.blocked = False
        self.slices: FileSender | None = None
        self._half = False

    def connection_made(self, transport: Any) -> None:
        driver, end = self.driver, self.end
        self.transport = transport
        driver.wires.add(self)
        end.wire = self
        driver.made(self, _name(transport, "peername"), _name(transport, "sockname"))

    def data_received(self, data: bytes) -> None:
        driver = self.driver
        end = self.end
        now = driver.turn.now = monotonic()
        if self._half:  # lingering: read and dropped
            return
        try:
            end.received(data, now)
        except Exception as error:
            driver.guard(end, error)
        driver.settle()

    def eof_received(self) -> bool:
        driver = self.driver
        now = driver.turn.now = monotonic()
        if self._half:
            return False
        driver.tell(self.end, self.end.received_eof, now)
        driver.settle()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        driver = self.driver
        driver.wires.discard(self)
        if self.slices is not None:
            self.slices.drop()
        if driver.shared:
            self._shut()
        end = self.end
        if end.wire is self:
            now = driver.turn.now = monotonic()
            reason = error if isinstance(error, OSError) else None
            if reason is None or not self.opened or end.closing is not OPEN or not self._read_on(reason):
                end.wire = None
                driver.tell(end, end.lost, reason, now)
                if end.out:
                    out, end.out = end.out, []
                    drop(out)
            driver.settle()
            if not self.opened:
                driver.ended()

    def _shut(self) -> None:
        theirs = self.transport.get_extra_info("socket")
        try:
            sock = _socket.socket(theirs.family, theirs.type, theirs.proto, os.dup(theirs.fileno()))
        except OSError:
            return
        shut(sock)
        sock.close()

    def _read_on(self, error: OSError) -> bool:
        """What broke may be our writing only: a worker that answers early and closes resets the connection
        behind its answer (SEMANTICS 63), and a loop that writes first tells us before it has read that."""
        theirs = self.transport.get_extra_info("socket")
        try:
            sock = _socket.socket(theirs.family, theirs.type, theirs.proto, os.dup(theirs.fileno()))
        except OSError:
            return False
        DescriptorWire(self.driver, self.end, sock.fileno(), reads=True, sock=sock, brief=True, broken=error).read_first()
        return True

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        driver = self.driver
        end = self.end
        driver.turn.now = monotonic()
        if self.slices is not None and self.slices.waiting:
            self.slices.start()
        elif end.held:
            driver.tell(end, end.unsent, 0, driver.turn.now)
            end.touch()
        driver.settle()

    def flush(self) -> None:
        """Write what the end has ready and do what it wants."""
        end = self.end
        transport = self.transport
        closing = end.closing
        if closing is not OPEN and closing is Close.ABORT:
            self.abort()
            return
        out = end.out
        if out and self.slices is None:
            out = end.outgoing()
            first, last = out[0], out[-1]
            if type(first) is not bytes or type(last) is not bytes or len(last) > JOIN_BYTES or len(out) > 2:
                self._write(out)
            else:  # mostly a head, or a head and its small content
                transport.write(first if len(out) == 1 else first + last)
        if self.blocked or self.slices is not None:
            if not end.held:
                length = transport.get_write_buffer_size() + (self.slices.piece.length if self.slices is not None else 0)
                self.driver.tell(end, end.unsent, max(length, 1), self.driver.turn.now)
        elif end.wants_room:
            end.wants_room = False
            self.driver.tell(end, end.unsent, 0, self.driver.turn.now)
        if end.wants_data is not self.reading and not self._half:
            self.reading = end.wants_data
            if self.reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        if end.closing is not OPEN and self.slices is None and not end.out:
            self._close(end.closing)

    def _write(self, out: list[Outgoing]) -> None:
        transport = self.transport
        pieces: list[bytes] = []
        for position, piece in enumerate(out):
            if type(piece) is bytes:
                pieces.append(piece)
                continue
            if pieces:
                transport.write(b"".join(pieces))
            assert isinstance(piece, FileSlice)
            self.end.out[:0] = out[position + 1 :]
            self.slices = FileSender(self, piece)
            self.slices.prepare()
            return
        if len(pieces) > 1 and sum(map(len, pieces)) <= READ_BYTES:
            transport.write(b"".join(pieces))
        elif self.driver.joins:
            transport.writelines(pieces)
        else:
            for octets in pieces:
                transport.write(octets)

    def _close(self, how: Close) -> None:
        if self._half or self.transport.is_closing():
            return
        if how is Close.LINGER and self.transport.can_write_eof():
            self._half = True
            self.transport.write_eof()
            self.end.wants_data = True
            if not self.reading:
                self.reading = True
                self.transport.resume_reading()
            self.driver.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def abort(self) -> None:
        """Drop everything; a TCP peer sees a reset, which can't be taken for an orderly end."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class FileSender:
    """One FileSlice on its way into a StreamWire's socket by sendfile."""

    def __init__(self, wire: StreamWire, piece: FileSlice) -> None:
        self.wire = wire
        self.piece = piece
        self.descriptor = -1
        self.waiting = True

    def prepare(self) -> None:
        """Wait until the octets before the slice are out."""
        transport = self.wire.transport
        transport.set_write_buffer_limits(high=0)
        if transport.get_write_buffer_size() == 0:
            self.start()

    def start(self) -> None:
        """The octets before the slice are out: the descriptor is ours for a while."""
        self.waiting = False
        sock = self.wire.transport.get_extra_info("socket")
        # a duplicate, because the loop forbids us to watch the descriptor of its own transport
        self.descriptor = os.dup(sock.fileno())
        self._send()

    def _send(self) -> None:
        piece = self.piece
        loop = self.wire.driver.loop
        try:
            while piece.length:
                sent = os.sendfile(self.descriptor, piece.fd, piece.offset, min(piece.length, SENDFILE_BYTES))
                if not sent:  # the file became shorter: the client must notice
                    self.wire.end.closing = Close.ABORT
                    break
                piece.offset += sent
                piece.length -= sent
        except BlockingIOError:
            loop.add_writer(self.descriptor, self._ready)
            return
        except OSError:
            self.wire.end.closing = Close.ABORT
        self._done()

    def _ready(self) -> None:
        driver, end = self.wire.driver, self.wire.end
        driver.loop.remove_writer(self.descriptor)
        driver.turn.now = monotonic()
        self._send()
        if self.wire.slices is self:  # some of it went out: a slow client, and not one that has stopped
            driver.tell(end, end.unsent, self.piece.length, driver.turn.now)
        driver.settle()

    def _done(self) -> None:
        wire = self.wire
        self.drop()
        wire.transport.set_write_buffer_limits(high=HIGH_WATER)
        end = wire.end
        if end.held:
            wire.driver.tell(end, end.unsent, 0, wire.driver.turn.now)
        end.touch()

    def drop(self) -> None:
        self.wire.slices = None
        if self.descriptor >= 0:
            self.wire.driver.loop.remove_writer(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
        self.piece.close()

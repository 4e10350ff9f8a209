"""The streams that we move by ourselves: an end's octets in and out of a socket, a pipe, a file.

Promise: the contract of `gateway/ends.py`; back-pressure both ways; no descriptor and no file outlives its stream.
Must never know: HTTP, routes, workers. Next: `driver.py`, which settles the turn; `poller.py`, which wakes them.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from gateway.drivers.poller import CLOSED, HUNG_UP, ONCE, READABLE, WRITABLE
from gateway.ends import OPEN, Close, End, FileSlice, Outgoing, Wire

if TYPE_CHECKING:
    from gateway.drivers.driver import Driver

FIRST_BYTES: Final = 16 * 1024
READ_BYTES: Final = 256 * 1024
"""What is read at once, at first, and at most where much comes."""
HIGH_WATER: Final = 128 * 1024
LOW_WATER: Final = 32 * 1024
"""Above and below which an end is told of what waits to be sent."""
JOIN_BYTES: Final = 16 * 1024
"""What is copied to be one piece."""
LINGER_S: Final = 2.0
"""How long octets are read and dropped after a refusal, so that the client can read our answer."""
SENDFILE_BYTES: Final = 1 << 20
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: what closes now is closed with a reset."""
_GONE: Final = -1
_ANSWERED: Final = (errno.EPIPE, errno.ECONNRESET)
"""What a write meets where the peer has closed: without its end of file (ECONNRESET), or after it (EPIPE; for a
unix socket in either case, and reading tells which)."""


def drop(out: list[Outgoing]) -> None:
    """These will not be sent."""
    for piece in out:
        if type(piece) is not bytes:
            assert isinstance(piece, FileSlice)
            piece.close()


def shut(sock: _socket.socket) -> None:
    """End the connection, whoever else has a duplicate of it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is not connected, or not any more
        pass


class DescriptorWire(Wire):
    """A descriptor with non-blocking reads and writes by ourselves."""

    __slots__ = (
        "accepted", "begun", "brief", "broken", "connecting", "delays", "descriptor", "driver", "end", "hung_up", "lingers",
        "more", "others", "pending", "pid", "reads", "restores", "room", "slice", "sock", "watched",
    )  # fmt: skip

    def __init__(
        self,
        driver: Driver,
        end: End,
        descriptor: int,
        *,
        reads: bool,
        sock: _socket.socket | None = None,
        connecting: bool = False,
        delays: bool = False,
        brief: bool = False,
        accepted: bool = False,
        broken: OSError | None = None,
        pid: int = 0,
        restores: bool = False,
    ) -> None:
        self.driver = driver
        self.end = end
        self.descriptor = descriptor
        self.pid = pid
        """The process whose stdout it is, 0 for none."""
        self.hung_up = False
        """Whether all that the other side ever sends was here when the poller last looked."""
        self.reads = reads
        self.sock = sock
        """The socket whose descriptor it is, None for a pipe."""
        self.connecting = connecting
        """True until the first thing succeeds that only a socket can do that is connected."""
        self.others: list[tuple[int, Any]] = []
        """Families and addresses to be tried where this one can't be connected."""
        self.delays = delays
        """Whether small writes may wait for an acknowledgement (Nagle's algorithm). The first never does, and for
        most connections it is the only one: TCP_NODELAY is set before the second."""
        self.begun = False
        self.brief = brief
        """Whether it lives for one request, and the other side mostly closes it."""
        self.accepted = accepted
        """Whether it came to us: a client's connection, or a stream that we were started with."""
        self.broken = broken
        """Why nothing more can be written, although there may be something to be read."""
        self.restores = restores
        """Whether others have it, too, and want it to block."""
        self.lingers = False
        """Whether we have ended our side, and read and drop what still comes."""
        self.watched = 0
        self.more = False
        """Whether there may be something to be read that the poller has told of, and will not tell again."""
        self.room = FIRST_BYTES
        """How much is read at once."""
        self.pending: list[memoryview] = []
        self.slice: FileSlice | None = None
        """Part of a file that comes after `pending`, and before what the end has ready."""
        driver.wires.add(self)
        end.wire = self

    def _ready(self, events: int) -> None:
        """Called by the poller: it can be read or written, or the other side is gone."""
        end = self.end
        if end.touched and end.closing is not OPEN:  # it is about to be closed, or will linger
            self.more = True
            return
        if self.connecting and events & ~(READABLE | WRITABLE):
            self._read(True)  # which tells why it can't be connected
        else:
            if self.connecting:
                self._stands()
            if self.watched & READABLE and events & ~WRITABLE:
                # where it has closed altogether, or with a reset, only reading tells how it ended
                self.hung_up = events & (HUNG_UP | CLOSED) == HUNG_UP
                self._read(events & CLOSED != 0)
            if self.watched & WRITABLE and events & ~READABLE:
                end.touch()

    def _stands(self) -> None:
        self.connecting = False
        self.driver.tell(self.end, self.end.connected, self.driver.turn.now)

    # ------------------------------------------------------------------ in

    def read_first(self) -> None:
        """Read what is here, if it is wanted; whatever is left is waited for once the turn is settled."""
        if self.end.wants_data:
            self._read(False)
        if self.descriptor >= 0:
            self.end.touch()

    def _read(self, more: bool) -> None:
        """`more`: whether something comes after what is read now, if it is only the end."""
        driver, end = self.driver, self.end
        try:
            octets = os.read(self.descriptor, self.room)
            if self.connecting:
                self._stands()
            if octets:
                if not self.lingers:
                    try:
                        end.received(octets, driver.turn.now)
                    except Exception as error:
                        driver.guard(end, error)
                    if len(octets) > JOIN_BYTES:
                        driver.settle_at_once()
                    if self.descriptor < 0:
                        return
                if len(octets) == self.room:
                    self.room = min(4 * self.room, READ_BYTES)
                    more = True
                if more or (self.hung_up and not end.wants_data):
                    self.more = True
                    end.touch()  # to be watched anew
                    return
                if not self.hung_up:
                    if not self.brief or not end.wants_data:
                        return
                    # a worker that closes after its answer mostly has done so by now
                    octets = os.read(self.descriptor, self.room)
                    if octets:
                        driver.tell(end, end.received, octets, driver.turn.now)
                        if len(octets) == self.room:
                            self.more = True
                            end.touch()
                        return
        except BlockingIOError:
            return
        except OSError as error:
            self.gone(error)
            return
        broken = self.broken
        if broken is not None and broken.errno != errno.EPIPE:  # a reset is told once, to whoever was first
            self.gone(broken)
            return
        self.reads = False
        if self.lingers:
            self.gone(None)
            return
        driver.tell(end, end.received_eof, driver.turn.now)
        end.touch()
        if self.pid:
            driver.silent(self.pid)

    def _watch(self) -> None:
        """Have the poller watch for what is wanted now."""
        if self.descriptor < 0:
            return
        wanted = READABLE | HUNG_UP if self.reads and self.end.wants_data else 0
        if self.pending or self.connecting or self.slice is not None:
            wanted |= WRITABLE
        elif wanted and self.sock is not None:  # of a terminal, one read takes a line, and not all that is there
            wanted |= ONCE
        if wanted != self.watched or (self.more and wanted & ONCE):
            self.more = False
            if wanted:
                try:
                    self.driver.poller.watch(self.descriptor, wanted, self._ready)
                except OSError as error:  # the kernel has no room for one more
                    self.gone(error)
                    return
            else:
                self.driver.poller.forget(self.descriptor)
            self.watched = wanted

    # ------------------------------------------------------------------ out

    def flush(self) -> None:
        """Write what the end has ready and do what it wants."""
        end, driver = self.end, self.driver
        if end.closing is not OPEN:
            if end.closing is Close.ABORT:
                self.abort()
                return
            if self.lingers:
                self._drop()
                self._watch()
                return
        written = 0
        if end.out or self.pending or self.slice is not None:
            written = self._write()
            if written == _GONE:
                return
        unsent = self._unsent() if self.pending or self.slice is not None else 0
        if unsent > LOW_WATER or (unsent and self.connecting):
            if unsent > HIGH_WATER or end.held or self.connecting:
                if written or not end.held:
                    driver.tell(end, end.unsent, unsent, driver.turn.now)
        elif unsent:
            if end.held or end.wants_room:
                end.wants_room = False
                driver.tell(end, end.unsent, 0, driver.turn.now)
        elif end.closing is not OPEN:
            self._close()
            return
        elif self.broken is not None:
            if not end.held:  # nobody takes it: no more is to come
                driver.tell(end, end.unsent, 1, driver.turn.now)
        elif (end.held or end.wants_room) and not self.connecting:
            end.wants_room = False
            driver.tell(end, end.unsent, 0, driver.turn.now)
        self._watch()

    def _unsent(self) -> int:
        length = sum(map(len, self.pending))
        return length if self.slice is None else length + self.slice.length

    def _write(self) -> int:
        """Write what was left before, and what the end has ready; how many octets, or _GONE."""
        if self.broken is not None:
            drop(self.end.outgoing())
            return 0
        if self.slice is None:
            out = self.end.outgoing()
            if len(out) == 1 and not self.pending:
                piece = out[0]
                if type(piece) is bytes:
                    return self._write_one(piece)
            if len(out) == 2 and not self.pending:  # mostly a head and its small content
                piece, last = out
                if type(piece) is bytes and type(last) is bytes and len(last) <= JOIN_BYTES:
                    return self._write_one(piece + last)
            if out:
                self._queue(out)
        return self._write_all()

    def _write_one(self, octets: bytes) -> int:
        try:
            if self.delays and self.begun:
                self._hurry()
            written = os.write(self.descriptor, octets)
        except BlockingIOError:  # a socket that is still connecting says so, too
            self.pending.append(memoryview(octets))
            return 0
        except OSError as error:
            self.pending.append(memoryview(octets))
            return self._not_written(error)
        if written < len(octets):
            self.pending.append(memoryview(octets)[written:])
        self._wrote()
        return written

    def _queue(self, out: list[Outgoing]) -> None:
        """Take over what is ready, up to a slice of a file: what comes after it stays with the end."""
        for position, piece in enumerate(out):
            if type(piece) is bytes:
                self.pending.append(memoryview(piece))
                continue
            assert isinstance(piece, FileSlice)
            self.slice = piece
            self.end.out[:0] = out[position + 1 :]
            return

    def _write_all(self) -> int:
        written = 0
        try:
            if self.delays and self.begun:
                self._hurry()
            while True:
                written += self._write_pending()
                piece = self.slice
                if self.pending or piece is None:
                    break
                while piece.length:
                    some = os.sendfile(self.descriptor, piece.fd, piece.offset, min(piece.length, SENDFILE_BYTES))
                    if not some:  # the file became shorter: the client must notice
                        self.abort()
                        return _GONE
                    written += some
                    piece.offset += some
                    piece.length -= some
                self.slice = None
                piece.close()
                out = self.end.outgoing()
                if out:
                    self._queue(out)
        except BlockingIOError:
            pass
        except OSError as error:
            if written:
                self.end.writes += 1
            return self._not_written(error)
        if written:
            self._wrote()
        return written

    def _write_pending(self) -> int:
        pending = self.pending
        written = 0
        while pending:
            try:
                some = os.writev(self.descriptor, pending[:64])
            except BlockingIOError:
                break
            written += some
            while pending and some >= len(pending[0]):
                some -= len(pending.pop(0))
            if some:
                pending[0] = pending[0][some:]
        return written

    def _hurry(self) -> None:
        self.delays = False
        assert self.sock is not None
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _wrote(self) -> None:
        self.begun = True
        self.end.writes += 1
        if self.connecting:
            self._stands()

    def _not_written(self, error: OSError) -> int:
        if self.sock is None or self.accepted or not self.reads or self.connecting or error.errno not in _ANSWERED:
            self.gone(error)
            return _GONE
        # the peer may have answered before it stopped reading: what it said must be read
        self.broken = error
        self._drop()
        return 0

    # ------------------------------------------------------------------ its end

    def _close(self) -> None:
        """Everything is written that was to be."""
        if self.end.closing is Close.LINGER and self.sock is not None and self.reads and self.broken is None:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:  # the peer is gone
                self.gone(None)
                return
            self.lingers = True
            self.end.wants_data = True
            self.driver.lingering[self] = self.driver.turn.now + LINGER_S
            self._watch()
        else:
            self.gone(None)

    def abort(self) -> None:
        """Drop everything; a TCP peer sees a reset, which can't be taken for an orderly end."""
        sock = self.sock
        if sock is not None and not self.brief and sock.family != socket.AF_UNIX and self.descriptor >= 0:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except OSError:
                pass
        self.gone(None)

    def gone(self, error: OSError | None) -> None:
        """Close it and tell the end."""
        if self.descriptor < 0 or (self.others and self.connecting and error is not None and self._try_next()):
            return
        driver = self.driver
        self._close_descriptor()
        self._drop()
        driver.wires.discard(self)
        if self.lingers:
            driver.lingering.pop(self, None)
        self.end.wire = None
        driver.tell(self.end, self.end.lost, error, driver.turn.now)
        driver.settle()
        if self.accepted:
            driver.ended()

    def _close_descriptor(self) -> None:
        driver = self.driver
        if self.watched:
            driver.poller.forget(self.descriptor, closing=not driver.launching)
            self.watched = 0
        if self.sock is not None:
            if driver.shared:
                shut(self.sock)
            self.sock.close()
        else:
            if self.restores:
                os.set_blocking(self.descriptor, True)
            os.close(self.descriptor)
        self.descriptor = -1

    def _drop(self) -> None:
        self.pending.clear()
        if self.slice is not None:
            self.slice.close()
            self.slice = None
        out, self.end.out = self.end.out, []
        drop(out)

    def _try_next(self) -> bool:
        """Connect to another address of the same name."""
        found = self.driver.connect(self.others)
        if isinstance(found, OSError):
            return False
        self._close_descriptor()
        self.sock, self.connecting = found
        self.descriptor = self.sock.fileno()
        self.delays, self.begun = self.sock.family != socket.AF_UNIX, False
        if not self.connecting:
            self._stands()
        self.end.touch()
        return True

    def abandon(self) -> None:
        """In a child that was forked: it is the parent's, who still uses it."""
        if self.sock is not None:
            self.sock.close()
        else:
            os.close(self.descriptor)
        self.descriptor = -1

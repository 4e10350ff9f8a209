"""The interface `static`: files of a directory (RFC 9110 8.8, 13, 14).

Promise: nothing outside `root` is ever sent, checked on the opened file itself and not on its
name, so that no race moves it; hidden files do not exist; large files go by sendfile. A small file that is
asked for again and again is kept for a second, and looked at each time: it is never sent as it was before.
Must never know: the front, other interfaces. Next: `exchange.py`.
"""

from __future__ import annotations

import errno
import html
import mimetypes
import os
import stat
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from gateway.ends import FileSlice
from gateway.errors import GatewayError, Side
from protocols.fields import UNSATISFIABLE, etag_matches, first, http_date, lower, parse_http_date, parse_range
from protocols.message import FieldLine, FieldLines, Response

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.routing import Found, Programs

SMALL_BYTES: Final = 64 * 1024
"""Files up to this are read in one go; above, the kernel sends them."""
_TYPES: Final = 512
KEPT_BYTES: Final = 4 * 1024
KEPT: Final = 1024
KEPT_S: Final = 1.0
"""Files up to this size, so many, and so long, are kept."""
SETTLED_S: Final = 2.0
"""A file that was changed less than this before may change again without a new time stamp of its own."""


class _Kept:
    """A small file as it was found, to be sent as long as it has the same marks."""

    __slots__ = ("full", "marks", "octets", "response", "until")

    def __init__(self, full: bytes, status: os.stat_result, octets: bytes, response: Response, until: float) -> None:
        self.full = full
        self.marks = _marks(status)
        self.octets = octets
        self.response = response
        self.until = until


def _marks(status: os.stat_result) -> tuple[int, int, int, int]:
    """What is another one whenever a file is another one, or was written to, moved, or closed to us."""
    return status.st_ino, status.st_dev, status.st_ctime_ns, status.st_size


class StaticInterface:
    """One route's files."""

    needs_length = False
    spools = False

    def __init__(self, route: Route, programs: Programs) -> None:
        assert route.root is not None
        self.running = 0
        self.programs = programs
        self.route = route
        self.root = os.path.realpath(route.root)
        self.types: dict[bytes, bytes] = {}
        self.kept: dict[bytes, _Kept] = {}
        """By the path of the request."""
        self.settled_s = SETTLED_S

    def start(self, exchange: Exchange) -> None:
        """Answer at once: a file is always ready."""
        found = exchange.found
        assert found is not None
        kept = self.kept.get(found.target.path)
        if kept is not None and self._send_kept(exchange, kept):
            return
        path, descriptor, status = self.find(exchange.request.method, found)
        if descriptor >= 0:
            self._send(exchange, path, descriptor, status)
        else:
            self._directory(exchange, path)

    def find(self, method: bytes, found: Found) -> tuple[bytes, int, os.stat_result]:
        """What answers: its path below the root, a descriptor of the file, its status.

        The descriptor is -1 for a directory that is to be listed, or asked for again with a slash.
        Raises GatewayError 403, 404 or 405.
        """
        if method not in (b"GET", b"HEAD"):
            raise GatewayError(
                405, "method", f"{method.decode('latin-1')} on a file", "", side=Side.CLIENT,
                fields=((b"Allow", b"GET, HEAD"),),
            )  # fmt: skip
        path = found.place.path_info.lstrip(b"/")
        descriptor, status = self._open(path)
        if stat.S_ISREG(status.st_mode):
            return path, descriptor, status
        os.close(descriptor)
        if not stat.S_ISDIR(status.st_mode):
            raise _missing(path, "it is neither a file nor a directory")
        if not found.target.path.endswith(b"/"):
            return path, -1, status
        for name in self.route.index or (b"index.html",):
            inside = path + b"/" + name if path and not path.endswith(b"/") else path + name
            try:
                descriptor, within = self._open(inside)
            except GatewayError as error:
                if error.status == 404:
                    continue
                raise
            if stat.S_ISREG(within.st_mode):
                return inside, descriptor, within
            os.close(descriptor)
        if not self.route.listing:
            raise _missing(path, "it is a directory without an index; listing = true would show its files")
        return path, -1, status

    def tick(self, now: float) -> None:
        """Nothing waits."""

    def let_go(self) -> None:
        """Nothing is kept between two requests."""

    def close(self) -> None:
        """Nothing is kept."""

    def _open(self, path: bytes) -> tuple[int, os.stat_result]:
        """Open a path below the root; raises GatewayError 404 or 403."""
        for segment in path.split(b"/"):
            if segment.startswith(b".") and segment != b".well-known":
                raise _missing(path, "hidden files are not served")
        full = os.path.join(self.root, path)
        try:
            descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise _refused(path, full, error) from None
        status = os.fstat(descriptor)
        real = os.readlink(b"/proc/self/fd/%d" % descriptor)
        if self.route.symlinks != "any":
            inside = real == self.root or real.startswith(self.root.rstrip(b"/") + b"/")
            if not inside or (self.route.symlinks == "none" and real != os.path.normpath(full)):
                os.close(descriptor)
                where = os.fsdecode(real)
                raise _missing(path, f"a symbolic link leads to {where} (symlinks = {self.route.symlinks!r})")
        mode, hold = status.st_mode, self.programs.hold
        if stat.S_ISREG(mode) and (hold(real, mode) or (real != full and hold(full, mode))):
            os.close(descriptor)
            raise _missing(path, "another route runs this file, so it is not sent")
        return descriptor, status

    # ------------------------------------------------------------------ files

    def _send_kept(self, exchange: Exchange, kept: _Kept) -> bool:
        """Whether that was the answer."""
        request = exchange.request
        if exchange.started >= kept.until or request.method != b"GET" or _conditional(request.fields):
            return False
        try:
            if _marks(os.stat(kept.full)) != kept.marks:
                return False
        except OSError:
            return False
        exchange.respond(kept.response)
        exchange.response_content(kept.octets)
        exchange.response_end()
        return True

    def _keep(self, exchange: Exchange, path: bytes, status: os.stat_result, octets: bytes, response: Response) -> None:
        assert exchange.found is not None
        if time.time() - status.st_ctime < self.settled_s:
            return
        if len(self.kept) >= KEPT:
            self.kept.clear()
        until = exchange.started + KEPT_S
        self.kept[exchange.found.target.path] = _Kept(os.path.join(self.root, path), status, octets, response, until)

    def _send(self, exchange: Exchange, path: bytes, descriptor: int, status: os.stat_result) -> None:
        size = status.st_size
        etag = b'"%x-%x"' % (status.st_mtime_ns, size)
        modified = int(status.st_mtime)
        fields: list[FieldLine] = [
            (b"Content-Type", self._type(path)),
            (b"Last-Modified", http_date(modified)),
            (b"ETag", etag),
            (b"Accept-Ranges", b"bytes"),
        ]
        request = exchange.request
        code, start, stop = 200, 0, size
        if _conditional(request.fields):
            try:
                code, start, stop = _conditions(exchange, etag, modified, size)
            except GatewayError:
                os.close(descriptor)
                raise
        if code == 304:
            os.close(descriptor)
            exchange.respond(Response(304, fields[1:3], length=0))
            exchange.response_end()
            return
        if code == 206:
            fields.append((b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, size)))
        length = stop - start
        response = Response(code, fields, length=length, derived={} if length <= KEPT_BYTES else None)
        exchange.respond(response)
        if request.method == b"HEAD" or not length:
            os.close(descriptor)
        elif length <= SMALL_BYTES:
            octets = os.pread(descriptor, length, start)
            os.close(descriptor)
            if len(octets) != length:
                what = f"{os.fsdecode(path)} became shorter"
                exchange.failed(GatewayError(500, "file-changed", what, side=Side.GATEWAY))
                return
            exchange.response_content(octets)
            if code == 200 and length <= KEPT_BYTES:
                self._keep(exchange, path, status, octets, response)
        else:
            exchange.response_content(FileSlice(descriptor, start, length, lambda: os.close(descriptor)))
        exchange.response_end()

    def _type(self, path: bytes) -> bytes:
        suffix = os.path.splitext(path)[1].lower()
        known = self.types.get(suffix)
        if known is None:
            guess = mimetypes.guess_type("x" + os.fsdecode(suffix))[0] or "application/octet-stream"
            if guess.startswith("text/") or guess in ("application/javascript", "application/json"):
                guess += "; charset=utf-8"
            if len(self.types) >= _TYPES:
                self.types.clear()
            known = self.types[suffix] = guess.encode()
        return known

    # ------------------------------------------------------------------ directories

    def _directory(self, exchange: Exchange, path: bytes) -> None:
        found = exchange.found
        assert found is not None
        if not found.target.path.endswith(b"/"):
            location = found.target.raw_path.partition(b"?")[0] + b"/"
            if found.target.query:
                location += b"?" + found.target.query
            exchange.respond(Response(301, [(b"Location", location)], length=0))
            exchange.response_end()
            return
        directory = os.path.join(self.root, path)
        try:
            page = self._listing(found.target.path, directory)
        except OSError as error:
            raise _refused(path, directory, error) from None
        exchange.respond(Response(200, [(b"Content-Type", b"text/html; charset=utf-8")], length=len(page)))
        if exchange.request.method != b"HEAD":
            exchange.response_content(page)
        exchange.response_end()

    def _listing(self, shown: bytes, directory: bytes) -> bytes:
        with os.scandir(directory) as entries:
            names = sorted((not _is_directory(entry), entry.name) for entry in entries if entry.name[:1] != b".")
        title = html.escape(os.fsdecode(shown).encode("utf-8", "replace").decode())
        lines = ['<li><a href="../">..</a>'] if shown != b"/" else []
        for is_file, name in names:
            link = quote_from_bytes(name) + ("" if is_file else "/")
            text = html.escape(name.decode("utf-8", "replace")) + ("" if is_file else "/")
            lines.append(f'<li><a href="./{link}">{text}</a>')
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            '<meta name="color-scheme" content="light dark">'
            "<style>body{font:1rem/1.6 system-ui,sans-serif;margin:3rem auto;max-width:48rem;padding:0 1rem}"
            f"</style><h1>{title}</h1><ul>{''.join(lines)}</ul>\n"
        ).encode()


def _conditions(exchange: Exchange, etag: bytes, modified: int, size: int) -> tuple[int, int, int]:
    """RFC 9110 13.2.2, in its order: (status, start, stop); raises GatewayError 412 or 416."""
    fields = exchange.request.fields
    if_match = first(fields, b"if-match")
    if if_match is not None:
        if not etag_matches(if_match, etag, weak=False):
            raise GatewayError(412, "precondition", "If-Match names another version", side=Side.CLIENT)
    else:
        since = parse_http_date(first(fields, b"if-unmodified-since") or b"")
        if since is not None and modified > since:
            raise GatewayError(412, "precondition", "modified since If-Unmodified-Since", side=Side.CLIENT)
    if_none_match = first(fields, b"if-none-match")
    if if_none_match is not None:
        if etag_matches(if_none_match, etag, weak=True):
            return 304, 0, 0
    else:
        since = parse_http_date(first(fields, b"if-modified-since") or b"")
        if since is not None and modified <= since:
            return 304, 0, 0
    wanted = first(fields, b"range")
    if wanted is None or exchange.request.method != b"GET":
        return 200, 0, size
    if_range = first(fields, b"if-range")
    if if_range is not None and if_range != etag and parse_http_date(if_range) != modified:
        return 200, 0, size
    ranges = parse_range(wanted, size)
    if ranges is UNSATISFIABLE:
        raise GatewayError(
            416, "range", f"{wanted.decode('latin-1')} of {size} octets", side=Side.CLIENT,
            fields=((b"Content-Range", b"bytes */%d" % size),),
        )  # fmt: skip
    if not isinstance(ranges, list) or len(ranges) != 1:  # several at once: allowed to be ignored (14.2)
        return 200, 0, size
    return 206, ranges[0][0], ranges[0][1]


def _conditional(fields: FieldLines) -> bool:
    """Whether a request may have something to say about conditions and ranges."""
    return any(lower(name) in _CONDITIONS for name, _ in fields)


_CONDITIONS: Final = frozenset((
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range",
))  # fmt: skip


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads in a circle, or where we may not look
        return False


def _refused(path: bytes, full: bytes, error: OSError) -> GatewayError:
    """Why a file or directory could not be opened: not every reason is that it is not there."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _missing(path, "there is no such file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return GatewayError(
            403, "permission", f"{os.fsdecode(full)} may not be read",
            "let the gateway's user read it (chmod a+r, and a+x on its directories)", side=Side.GATEWAY,
        )  # fmt: skip
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return GatewayError(
            503, "descriptor-limit", f"{os.fsdecode(full)} cannot be opened: {error.strerror}",
            "raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower connections of [server.limits]",
            side=Side.GATEWAY, retry_after_s=5,
        )  # fmt: skip
    return _missing(path, error.strerror or "it cannot be opened")


def _missing(path: bytes, why: str) -> GatewayError:
    return GatewayError(404, "no-file", f"/{os.fsdecode(path)}: {why}", side=Side.CLIENT)

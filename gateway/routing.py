"""From a request to its route and place: which worker, which script, which file.

Promise: the most specific route wins, then the order in the file; a script's source is never served
and a file that does not exist is never handed to a worker.
Must never know: interfaces' code, connections. Next: `exchange.py`, which asks; `protocols/target.py`.

Which route is more specific: an exact path, then a suffix, then the longest prefix. A route that
names the request's host comes before one that names none. Where a route has a suffix (`split`, or a
`path` such as `*.php`), only files that end with it are ever run by it or handed to its worker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.config import Kind, Route
from gateway.errors import GatewayError, Side
from protocols.memory import Memory
from protocols.message import Derived, RemoteProtocolError
from protocols.target import Form, Place, Target, parse, split_prefix, split_suffix

TARGETS: Final = 4096
TARGET_BYTES: Final = 1024
"""So many targets, and paths, are remembered, up to this length with their host."""
AUTHORITY: Final = Form.AUTHORITY
ASTERISK: Final = Form.ASTERISK
BACKUPS: Final = (b"~", b".bak", b".orig", b".swp", b".old", b".save", b".dpkg-dist", b".rpmsave")


class Found:
    """A route and where in it the request landed."""

    __slots__ = ("derived", "place", "redirect", "route", "target")

    def __init__(
        self, route: Route, target: Target, place: Place, redirect: bytes = b"", derived: Derived | None = None
    ) -> None:
        self.route: Final = route
        self.target: Final = target
        self.place: Final = place
        self.redirect: Final = redirect
        """Where the client has to go instead: the path with a slash, for a directory."""
        self.derived: Final = derived
        """What was computed from it; None where it is not shared."""


class _Way:
    """What the path of a request says, and its host."""

    __slots__ = ("place", "routes")

    def __init__(self, routes: list[Route], place: Place | None) -> None:
        self.routes: Final = routes
        """The best first."""
        self.place: Final = place
        """In the best one; None where that depends on more than the path: on files."""


class Router:
    """The routes of one server, in the order in which they are tried."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = sorted(routes, key=_rank)
        self._indexes = [r for r in self.routes if r.match.kind is Kind.SUFFIX and r.index and r.root]
        """Suffix routes that answer for a directory, too: by a file in it that has the suffix."""
        self._targets: Memory[tuple[bytes, bytes], tuple[Target, _Way, Found | None]] = Memory(TARGETS)
        self._ways: Memory[tuple[bytes, bytes], _Way] = Memory(TARGETS)
        """By host and path."""

    def resolve(self, method: bytes, host: bytes, raw_target: bytes) -> Found:
        """Raises GatewayError 400, 403, 404, 405, 421 or 501."""
        if method == b"TRACE":  # it would show what a browser hides from its scripts: cookies (RFC 9110 9.3.8)
            raise GatewayError(501, "trace", "TRACE is not served", side=Side.CLIENT)
        key = (host, raw_target)
        entry = self._targets.known.get(key)
        if entry is None:
            entry = self._look_up(method, key)
        target, way, found = entry
        routes = way.routes
        if self._indexes and target.path.endswith(b"/"):  # an index file may have come or gone since
            routes, found = self.candidates(host, target), None
            if not routes:
                raise self._no_route(host, target)
        route = routes[0]
        if route.methods and method not in route.methods:
            for route in routes:
                if not route.methods or method in route.methods:
                    return self._find(route, target)
            raise _not_allowed(method, routes)
        if found is not None:
            return found
        return self._find(route, target)

    def _look_up(self, method: bytes, key: tuple[bytes, bytes]) -> tuple[Target, _Way, Found | None]:
        host, raw = key
        try:
            target = parse(method, raw)
        except RemoteProtocolError as error:
            raise GatewayError(400, "bad-target", error.detail, side=Side.CLIENT) from None
        if target.form is AUTHORITY:
            raise GatewayError(501, "connect", "CONNECT is for forward proxies", side=Side.CLIENT)
        if target.form is ASTERISK or len(raw) + len(host) > TARGET_BYTES:  # "*" depends on the method
            return target, self._way(host, target), None
        path = (host, target.path)
        way = self._ways.known.get(path)
        if way is None:
            way = self._way(host, target)
            self._ways.note(path, way)
        kept = self._targets.again(key)
        found = None
        if way.place is not None and not target.encoded_slash:
            found = Found(way.routes[0], target, way.place, derived={} if kept else None)
        entry = (target, way, found)
        if kept:
            self._targets.keep(key, entry)
        return entry

    def _way(self, host: bytes, target: Target) -> _Way:
        routes = self.candidates(host, target)
        if not routes:
            raise self._no_route(host, target)
        route = routes[0]
        place = None
        if route.root is None or route.interface == "static":  # the file system has no say
            try:
                place = self._find(route, target).place
            except GatewayError:  # another route may take this method: `resolve` tells
                pass
        return _Way(routes, place)

    def _no_route(self, host: bytes, target: Target) -> GatewayError:
        if any(route.hosts for route in self.routes) and self.candidates(b"", target, any_host=True):
            return GatewayError(
                421, "no-host", f"no route for host {_text(host)}", "add it to `hosts` of a route", side=Side.CLIENT
            )
        return GatewayError(404, "no-route", f"no route for {_text(target.path)}", side=Side.CLIENT)

    def candidates(self, host: bytes, target: Target, *, any_host: bool = False) -> list[Route]:
        """The routes that match, the best first; methods are not looked at."""
        name = host_name(host)
        path = target.path if target.form is not ASTERISK else b"/"
        return [
            route
            for route in self.routes
            if (not route.hosts or any_host or name in route.hosts)
            and (matches(route, path) or (route in self._indexes and _has_index(route, path)))
        ]

    def _find(self, route: Route, target: Target) -> Found:
        if target.form is ASTERISK:
            raise GatewayError(501, "options", "OPTIONS * asks for the server itself", side=Side.CLIENT)
        if target.encoded_slash and (route.interface != "http" or route.app is not None):
            raise GatewayError(404, "encoded-slash", f"%2F in the path {_text(target.raw)}", side=Side.CLIENT)
        try:
            return locate(route, target)
        except GatewayError as error:
            error.route = route.path
            raise


def _rank(route: Route) -> tuple[bool, int, int, int]:
    kinds = {Kind.EXACT: 0, Kind.SUFFIX: 1, Kind.PREFIX: 2}
    return (not route.hosts, kinds[route.match.kind], -len(route.match.value.rstrip(b"/")), route.number)


def _has_index(route: Route, path: bytes) -> bool:
    """Whether the path is a directory that an `index` file with the route's suffix stands for."""
    if not path.endswith(b"/"):
        return False
    try:
        name = _index(route, (route.root or b"").rstrip(b"/") + path.rstrip(b"/"))
    except GatewayError:
        return False
    return name.endswith(route.match.value)


def _index(route: Route, directory: bytes) -> bytes:
    """The first of the route's `index` files that is there; b"" for none."""
    return next((name for name in route.index if _mode(directory + b"/" + name) is not None), b"")


def _suffix(route: Route) -> bytes | None:
    """What files that this route runs end with; None where any may run."""
    if route.split is not None:
        return route.split
    return route.match.value if route.match.kind is Kind.SUFFIX else None


class Programs:
    """What the routes run: such a file is never sent as it is, whatever path leads to it (SEMANTICS 75).

    Of a directory of scripts that is all: libraries, too, and a script whose mode is wrong or whose route
    takes other methods or hosts. Only where a static route names the same directory, or one in it, does
    the mode of a file tell which it is.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        running = [route for route in routes if route.interface in ("cgi", "fastcgi", "scgi")]
        shown = [_directory(r.root) for r in routes if r.interface == "static" and r.root is not None]
        self._suffixes = _with_backups(
            {r.match.value for r in routes if r.match.kind is Kind.SUFFIX and r.interface != "static"}
        )
        scripts = {os.path.realpath(r.script) for r in running if r.script is not None}
        self._roots: list[tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]] = []
        """A directory, the endings of what is run in it, and where in it only what is executable is."""
        for route in running:
            suffix = _suffix(route)
            if route.root is None or (route.interface != "cgi" and route.split is None):
                continue
            root = _directory(route.root)
            if suffix is not None:
                self._roots.append((root, _with_backups({suffix}), ()))
            elif route.match.kind is Kind.EXACT:
                scripts.add(os.path.realpath(root + route.match.value))
            else:
                self._roots.append((root, (b"",), tuple(one for one in shown if one.startswith(root))))
        self._scripts = frozenset(_with_backups(scripts))
        self._below = tuple({root for root, _, _ in self._roots})
        """In no other directory does it depend on more than the name."""

    def hold(self, real: bytes, mode: int) -> bool:
        """Whether a file is one of them, by a name that the kernel tells; `mode` as of stat."""
        if real.endswith(self._suffixes) or real in self._scripts:
            return True
        if not real.startswith(self._below):
            return False
        return any(
            real.startswith(root) and real.endswith(endings) and (mode & 0o111 or not real.startswith(shown))
            for root, endings, shown in self._roots
        )


def _directory(root: bytes) -> bytes:
    """Its real name with a slash at the end, with which the names of all in it begin."""
    return os.path.realpath(root).rstrip(b"/") + b"/"


def _with_backups(names: Iterable[bytes]) -> tuple[bytes, ...]:
    """A copy that an editor has left has the same source in it."""
    return tuple(name + ending for name in names for ending in (b"", *BACKUPS))


def host_name(host: bytes) -> bytes:
    """The host without its port, in lower case."""
    name = host.partition(b"]")[0] + b"]" if host.startswith(b"[") else host.partition(b":")[0]
    return name.lower()


def matches(route: Route, path: bytes) -> bool:
    """Whether a normalised path belongs to a route, hosts and methods aside."""
    kind, value = route.match.kind, route.match.value
    if kind is Kind.EXACT:
        return path == value
    if kind is Kind.SUFFIX:
        return split_suffix(path, value) is not None
    return split_prefix(path, value) is not None


def locate(route: Route, target: Target) -> Found:
    """Where in the route the path lands; looks at files. Raises GatewayError 403 or 404."""
    path = target.path
    root = route.root or b""
    if route.match.kind is Kind.PREFIX:
        split = split_prefix(path, route.match.value)
        assert split is not None
        prefix, rest = split
    else:
        prefix, rest = b"", path
    if route.interface == "static" or (route.interface == "http" and route.app is None):
        return Found(route, target, Place(prefix, rest, b"", root))
    if route.script is not None:
        name = path if route.match.kind is Kind.EXACT else prefix
        return Found(route, target, Place(name, path[len(name) :], route.script, root))
    if not root:
        if route.match.kind is Kind.PREFIX:
            return Found(route, target, Place(prefix, rest))
        suffix = _suffix(route)
        split = split_suffix(path, suffix) if suffix is not None else None
        name, rest = split if split is not None else (path, b"")
        return Found(route, target, Place(name, rest))
    if route.interface == "cgi":
        return _locate_script(route, target, prefix, rest)
    return _locate_document(route, target, prefix, rest)


def _locate_script(route: Route, target: Target, prefix: bytes, rest: bytes) -> Found:
    """The first file along the path, below a directory of scripts."""
    filename = (route.root or b"").rstrip(b"/")
    segments = rest.split(b"/")[1:]
    for number, segment in enumerate(segments):
        if not segment:
            break
        _refuse_hidden(segment, target)
        filename += b"/" + segment
        mode = _mode(filename)
        if mode is None:
            raise _missing(target, f"there is no script {_text(filename)}")
        if stat.S_ISDIR(mode):
            continue
        script = prefix + b"/" + b"/".join(segments[: number + 1])
        return _script(route, target, script, target.path[len(script) :], filename)
    name = _index(route, filename)
    if name:
        if not target.path.endswith(b"/"):
            return _with_slash(route, target)
        return _script(route, target, target.path + name, b"", filename + b"/" + name)
    if _mode(filename) is None:  # the root itself, as that of a directory that is served may come later
        raise _missing(target, f"there is no directory {_text(filename)}")
    raise GatewayError(
        403,
        "directory",
        f"{_text(filename)} is a directory of scripts",
        "name a script, or set `index`",
        side=Side.CLIENT,
    )


def _script(route: Route, target: Target, script: bytes, info: bytes, filename: bytes) -> Found:
    mode = _mode(filename) or 0
    if not stat.S_ISREG(mode):
        raise GatewayError(403, "not-a-file", f"{_text(filename)} is no regular file", side=Side.CLIENT)
    suffix = _suffix(route)
    if suffix is not None and not filename.endswith(suffix):
        raise _missing(target, f"{_text(filename)} does not end with {_text(suffix)}: this route does not run it")
    _check_links(route, filename)
    if not mode & 0o111:
        raise GatewayError(
            403, "not-executable", f"{_text(filename)} is not executable", f"chmod +x {_text(filename)}",
            side=Side.GATEWAY,
        )  # fmt: skip
    return Found(route, target, Place(script, info, filename, route.root or b""))


def _locate_document(route: Route, target: Target, prefix: bytes, rest: bytes) -> Found:
    """A file below the document root of a worker such as php-fpm: it has to exist (SEMANTICS 16)."""
    root = (route.root or b"").rstrip(b"/")
    suffix = _suffix(route)
    whole = Found(route, target, Place(prefix, rest, b"", route.root or b""))
    """For a worker that maps paths itself (a front controller): all below the prefix is PATH_INFO."""
    if suffix is None and not route.index:
        return whole
    split = split_suffix(rest, suffix) if suffix is not None else None
    relative, info = split if split is not None else (rest, b"")
    for segment in relative.split(b"/"):
        _refuse_hidden(segment, target)
    filename = root + relative
    mode = _mode(filename.rstrip(b"/") or b"/")
    if mode is not None and stat.S_ISDIR(mode) and not info.strip(b"/"):
        name = _index(route, filename.rstrip(b"/"))
        if not name and suffix is None:
            return whole
        if not name:
            raise _missing(target, f"{_text(filename)} is a directory, and none of `index` is in it")
        if not target.path.endswith(b"/"):
            return _with_slash(route, target)
        relative, info = relative.rstrip(b"/") + b"/" + name, b""
        filename, mode = root + relative, _mode(root + relative)
    elif suffix is None:
        return whole
    if mode is None or not stat.S_ISREG(mode):
        raise _missing(target, f"there is no file {_text(filename)}")
    if suffix is not None and not filename.endswith(suffix):
        # a worker such as php-cgi runs whatever it is given: an uploaded picture, too
        raise _missing(
            target, f"{_text(filename)} does not end with {_text(suffix)}: this route does not hand it over",
            "give files that are sent as they are a route with interface = \"static\"",
        )  # fmt: skip
    return Found(route, target, Place(prefix + relative, info, filename, route.root or b""))


def _with_slash(route: Route, target: Target) -> Found:
    path, mark, query = target.raw_path.partition(b"?")
    return Found(route, target, Place(), path + b"/" + mark + query)


def _mode(filename: bytes) -> int | None:
    """Its type and permission bits, None if it is not there. Raises GatewayError 403 if we may not look."""
    try:
        return os.stat(filename).st_mode
    except PermissionError:
        raise GatewayError(
            403, "permission", f"a directory above {_text(filename)} may not be entered",
            "let the gateway's user enter it (chmod a+x on each)", side=Side.GATEWAY,
        ) from None  # fmt: skip
    except OSError:
        return None


def _check_links(route: Route, filename: bytes) -> None:
    if route.symlinks == "any" or not _has_links(route.root or b"", filename):
        return
    root = _real(route.root or b"/").rstrip(b"/")
    real = _real(filename)
    below = len((route.root or b"").rstrip(b"/"))
    straight = root + filename[below:]
    if not real.startswith(root + b"/") or (route.symlinks == "none" and real != straight):
        raise GatewayError(
            403, "symlink", f"{_text(filename)} leads to {_text(real)}",
            f"symlinks = {route.symlinks!r} forbids it; symlinks = \"any\" allows it", side=Side.GATEWAY,
        )  # fmt: skip


def _has_links(root: bytes, filename: bytes) -> bool:
    """Whether a name below `root` passes through a symbolic link; mostly not, and then nothing leads elsewhere."""
    place = root.rstrip(b"/")
    below = len(place)
    try:
        for segment in filename[below:].split(b"/")[1:]:
            place += b"/" + segment
            if stat.S_ISLNK(os.lstat(place).st_mode):
                return True
    except OSError:  # it is gone since it was looked at
        return True
    return False


def _real(filename: bytes) -> bytes:
    """The name without symbolic links, as the kernel tells it: three calls, whatever the depth."""
    try:
        descriptor = os.open(filename, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is gone since it was looked at, or there are no descriptors left
        return os.path.realpath(filename)
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    finally:
        os.close(descriptor)


def _refuse_hidden(segment: bytes, target: Target) -> None:
    if segment.startswith(b".") or segment.endswith(BACKUPS):
        raise _missing(target, "hidden files and backup copies are neither run nor served")


def _missing(target: Target, why: str, remedy: str = "") -> GatewayError:
    return GatewayError(404, "no-file", f"{_text(target.path)}: {why}", remedy, side=Side.CLIENT)


def _not_allowed(method: bytes, routes: Sequence[Route]) -> GatewayError:
    allowed = b", ".join(sorted(set().union(*(route.methods for route in routes))))
    return GatewayError(
        405, "method", f"{_text(method)} is not among `methods`", side=Side.CLIENT, fields=((b"Allow", allowed),)
    )


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")

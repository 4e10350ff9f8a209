"""The request-target and the one normalisation of a path (RFC 9112 3.2, RFC 3986 5.2.4, 6.2.2).

Promise: the path is decoded once and normalised once, before routing; nobody behind the router ever
sees another one. Octets stay octets: what is not UTF-8 passes unchanged and means nothing.
Must never know: routes, files, the file system. Next: `gateway/routing.py`, which finds a place for it.
"""

from __future__ import annotations

import enum
import re
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from protocols.message import RemoteProtocolError, Value


class Form(enum.Enum):
    """The four forms of a request-target (RFC 9112 3.2)."""

    ORIGIN = "origin-form"
    ABSOLUTE = "absolute-form"
    AUTHORITY = "authority-form"
    ASTERISK = "asterisk-form"


class Target(Value):
    """A request-target taken apart."""

    __slots__ = ("authority", "encoded_slash", "form", "path", "query", "raw", "raw_path")

    def __init__(
        self,
        raw: bytes,
        form: Form,
        path: bytes,
        raw_path: bytes,
        query: bytes,
        authority: bytes = b"",
        encoded_slash: bool = False,
    ) -> None:
        self.raw: Final = raw
        """As sent."""
        self.form: Final = form
        self.path: Final = path
        """Decoded, without dot segments and empty segments; b"" for authority- and asterisk-form."""
        self.raw_path: Final = raw_path
        """Path and query in origin-form, encoded: the same path for an upstream that decodes it itself."""
        self.query: Final = query
        """Undecoded, without its question mark; b"" if there is none."""
        self.authority: Final = authority
        self.encoded_slash: Final = encoded_slash
        """Whether a %2F was in the path: a segment with a slash inside cannot be told from two (SEMANTICS 6)."""

    def parts(self) -> tuple[object, ...]:
        return self.raw, self.form, self.path, self.raw_path, self.query, self.authority, self.encoded_slash


class Place(Value):
    """A route's answer: what the worker is told about where the request landed (RFC 3875 3.3)."""

    __slots__ = ("document_root", "path_info", "script_filename", "script_name")

    def __init__(
        self, script_name: bytes = b"", path_info: bytes = b"", script_filename: bytes = b"", document_root: bytes = b""
    ) -> None:
        self.script_name: Final = script_name
        self.path_info: Final = path_info
        self.script_filename: Final = script_filename
        """The file, b"" where there is none."""
        self.document_root: Final = document_root

    def parts(self) -> tuple[object, ...]:
        return self.script_name, self.path_info, self.script_filename, self.document_root

    @property
    def path_translated(self) -> bytes:
        """RFC 3875 4.1.6: only where there is a PATH_INFO and a document root."""
        if not self.path_info or not self.document_root:
            return b""
        return self.document_root.rstrip(b"/") + self.path_info


_ORIGIN: Final = Form.ORIGIN  # a global is looked up faster than a member on its class
# No escape, no empty segment, no segment that begins with a dot: nothing to normalise.
_PLAIN = re.compile(rb"((?:/(?![./])[!\"$&-.0->@-~]*+)+)(?:\?([!\"$-~]*+))?")
_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)([^#]*)")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SAFE = "/!$&'()*+,;=:@~-._"


def parse(method: bytes, raw: bytes) -> Target:
    """Take a request-target apart. Raises RemoteProtocolError(400)."""
    plain = _PLAIN.fullmatch(raw)
    if plain is not None:
        path, query = plain.groups()
        return Target(raw, _ORIGIN, path, raw, query or b"")
    if not _VISIBLE.fullmatch(raw):
        raise RemoteProtocolError("what is not visible ASCII has to be percent-encoded in a request-target")
    if b"#" in raw:
        raise RemoteProtocolError("a fragment in the request-target")
    if raw == b"*":
        if method != b"OPTIONS":
            raise RemoteProtocolError("the request-target * belongs to OPTIONS")
        return Target(raw, Form.ASTERISK, b"", raw, b"")
    if method == b"CONNECT":
        return Target(raw, Form.AUTHORITY, b"", raw, b"", raw)
    if raw.startswith(b"/"):
        return _normalised(raw, raw, Form.ORIGIN, b"")
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        raise RemoteProtocolError(f"the request-target is {raw[:60]!r}, in none of the four forms")
    authority, rest = absolute.groups()
    if b"@" in authority:
        raise RemoteProtocolError("userinfo in the request-target")
    return _normalised(raw, rest if rest.startswith(b"/") else b"/" + rest, Form.ABSOLUTE, authority)


def _normalised(raw: bytes, origin: bytes, form: Form, authority: bytes) -> Target:
    encoded, mark, query = origin.partition(b"?")
    if _BAD_ESCAPE.search(encoded):
        raise RemoteProtocolError("a percent sign without two hexadecimal digits in the path")
    decoded = unquote_to_bytes(encoded)
    if b"\0" in decoded:
        raise RemoteProtocolError("NUL in the path")
    segments: list[bytes] = []
    parts = decoded.split(b"/")[1:]
    for part in parts:
        if part == b"..":
            if not segments:
                raise RemoteProtocolError("the path leads above the root")
            segments.pop()
        elif part not in (b"", b"."):
            segments.append(part)
    path = b"/" + b"/".join(segments)
    if segments and parts[-1] in (b"", b".", b".."):
        path += b"/"
    slash = b"%2f" in encoded.lower()
    # where normalising changed nothing, the client's own spelling goes on
    raw_path = encoded if path == decoded else quote_from_bytes(path, safe=_SAFE).encode()
    return Target(raw, form, path, raw_path + mark + query, query, authority, slash)


def encode_path(path: bytes) -> bytes:
    """A decoded path as it may stand in a request-target or Location."""
    return quote_from_bytes(path, safe=_SAFE).encode()


def split_prefix(path: bytes, prefix: bytes) -> tuple[bytes, bytes] | None:
    """(SCRIPT_NAME, PATH_INFO) if `path` lies at or below `prefix`, at a segment boundary.

    `/hg` and `/hg/` are the same prefix: both match `/hg` and all below it, neither `/hgx`.
    """
    name = prefix.rstrip(b"/")
    if not path.startswith(name):
        return None
    rest = path[len(name) :]
    if rest and not rest.startswith(b"/"):
        return None
    return name, rest


_SUFFIXES: dict[bytes, re.Pattern[bytes]] = {}


def split_suffix(path: bytes, suffix: bytes) -> tuple[bytes, bytes] | None:
    """(script, PATH_INFO) cut after the first segment that ends with `suffix`, None if none does.

    By octets, and with the case of ASCII letters as written: no folding (SEMANTICS 74).
    """
    pattern = _SUFFIXES.get(suffix)
    if pattern is None:
        pattern = _SUFFIXES[suffix] = re.compile(rb"[^/]" + re.escape(suffix) + rb"(?=/|\Z)")
    match = pattern.search(path)
    if match is None:
        return None
    end = match.end()
    return path[:end], path[end:]

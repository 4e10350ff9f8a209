"""The request-target and the one normalisation of a path (RFC 9112 3.2, RFC 3986 5.2.4, 6.2.2).

Promise: the path is decoded once and normalised once, before routing; nobody behind the router ever
sees another one. Octets stay octets: what is not UTF-8 passes unchanged and means nothing.
Must never know: routes, files, the file system. Next: `gateway/routing.py`, which finds a place for it.
"""

from __future__ import annotations

import enum
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from protocols.message import RemoteProtocolError


class Form(enum.Enum):
    """The four forms of a request-target (RFC 9112 3.2)."""

    ORIGIN = "origin-form"
    ABSOLUTE = "absolute-form"
    AUTHORITY = "authority-form"
    ASTERISK = "asterisk-form"


class Target(msgspec.Struct, frozen=True, gc=False):
    """A request-target taken apart."""

    raw: bytes
    """As sent."""
    form: Form
    path: bytes
    """Decoded, without dot segments and empty segments; b"" for authority- and asterisk-form."""
    raw_path: bytes
    """Path and query in origin-form, encoded: the same path for an upstream that decodes it itself."""
    query: bytes
    """Undecoded, without its question mark; b"" if there is none."""
    authority: bytes = b""
    encoded_slash: bool = False
    """Whether a %2F was in the path: a segment with a slash inside cannot be told from two (SEMANTICS 6)."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """A route's answer: what the worker is told about where the request landed (RFC 3875 3.3)."""

    script_name: bytes = b""
    path_info: bytes = b""
    script_filename: bytes = b""
    """The file, b"" where there is none."""
    document_root: bytes = b""

    @property
    def path_translated(self) -> bytes:
        """RFC 3875 4.1.6: only where there is a PATH_INFO and a document root."""
        if not self.path_info or not self.document_root:
            return b""
        return self.document_root.rstrip(b"/") + self.path_info


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
        return Target(raw, Form.ORIGIN, path, raw, query or b"")
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
    return path[: match.end()], path[match.end() :]

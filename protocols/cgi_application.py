"""CGI/1.1 (RFC 3875) from the application's side: meta-variables become a request, a response becomes a script's.

Promise: one reader of meta-variables for CGI, FastCGI and SCGI; no length is believed that is no number;
what is written can be framed in one way only, and nothing in it breaks a line.
Must never know: processes, records, sockets. Next: `cgi.py`, the server's side, and `gateway/fronts/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from protocols.cgi import encode_head
from protocols.fields import HOP_BY_HOP, forwardable
from protocols.memory import Memo
from protocols.message import FieldLine, LocalProtocolError, Peer, RemoteProtocolError, Request, Response
from protocols.target import encode_path

# ---------------------------------------------------------------------- the request (RFC 3875 4.1)

LENGTH_DIGITS: Final = 19
_CONTENT_LENGTH: Final = b"CONTENT_LENGTH"
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME: Final = re.compile(rb"HTTP_[A-Z0-9_]+")
_NOT_VISIBLE: Final = re.compile(rb"[^!-~]")
_ABSENT: Final = frozenset(name.upper().replace(b"-", b"_") for name in HOP_BY_HOP) | {
    b"CONTENT_LENGTH",  # these two have variables of their own, and some servers send both
    b"CONTENT_TYPE",
    b"PROXY",  # httpoxy
}


def _field(variable: bytes) -> bytes:
    """The field name that a meta-variable stands for, b"" for none: upper case and `_` can't be undone otherwise."""
    if _NAME.fullmatch(variable) is None or variable[5:] in _ABSENT:
        return b""
    return variable[5:].replace(b"_", b"-").title()


_fields: Final = Memo(_field)


def variables_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Meta-variables by name. One that comes twice: fields are joined, as servers should have done (4.1.18)
    and nginx did not before 1.23; of anything else the last one counts."""
    variables: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in variables and name.startswith(b"HTTP_"):
            value = variables[name] + (b"; " if name == b"HTTP_COOKIE" else b", ") + value
        variables[name] = value
    return variables


# What a shell, a service manager or a user's session sets; a web server would not say these of a request.
_OF_THE_PROCESS: Final = re.compile(
    rb"(?:PATH|HOME|PWD|OLDPWD|SHLVL|SHELL|TERM|USER|LOGNAME|MAIL|HOSTNAME|EDITOR|PAGER|TZ|TMPDIR|LANG|LANGUAGE|_"
    rb"|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|LISTEN_(?:FDS|PID|FDNAMES)|HTTP_PROXY"
    rb"|(?:LC_|LD_|PYTHON|PERL5|XDG_|SSH_|SUDO_|VIRTUAL_ENV|MALLOC_)[A-Za-z0-9_]*)"
)


def variables_of_environment(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The meta-variables in the environment of a CGI program.

    Only what belongs to the process itself is left out: what a route adds has any name, and an
    application is to find it here as it does over FastCGI. HTTP_PROXY is that of the system or a
    client's attempt to pose as it: never a field that anybody needs.
    """
    return {name: value for name, value in environment.items() if _OF_THE_PROCESS.fullmatch(name) is None}


def content_length(variables: Mapping[bytes, bytes]) -> int | None:
    """Octets of content as CONTENT_LENGTH tells them; None where it is absent or empty (4.1.2).

    Raises RemoteProtocolError for anything but digits.
    """
    value = variables.get(_CONTENT_LENGTH, b"")
    if not value:
        return None
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise RemoteProtocolError(f"CONTENT_LENGTH is {value[:40]!r}, not a number of octets")
    return int(value)


def request_of(variables: Mapping[bytes, bytes], length: int | None) -> Request:
    """The request that a web server has told in meta-variables, with so many octets of content.

    Fields come in no certain order, their names in a likely case. Those of the client's connection
    (RFC 9110 7.6.1) are not among them: it ends at the web server. Raises RemoteProtocolError.
    """
    method = variables.get(b"REQUEST_METHOD", b"")
    if _TOKEN.fullmatch(method) is None:
        what = f"REQUEST_METHOD is {method[:40]!r}" if method else "there is no REQUEST_METHOD"
        raise RemoteProtocolError(f"{what}: these are not the meta-variables of a request")
    fields: list[FieldLine] = []
    for variable, value in variables.items():
        name = _fields[variable]
        if name:
            fields.append((name, value))
    kind = variables.get(b"CONTENT_TYPE")
    if kind:  # servers whose config names it send it empty where the client sent none
        fields.append((b"Content-Type", kind))
    if length is not None and variables.get(_CONTENT_LENGTH):
        fields.append((b"Content-Length", b"%d" % length))
    return Request(
        method, _target(variables), fields, variables.get(b"SERVER_PROTOCOL") or b"HTTP/1.0",
        variables.get(b"HTTP_HOST", b""), length,
    )  # fmt: skip


def _target(variables: Mapping[bytes, bytes]) -> bytes:
    """REQUEST_URI, which all web servers send and the standard does not know, or what SCRIPT_NAME, PATH_INFO
    and QUERY_STRING rebuild (3.3); visible ASCII in any case."""
    target = variables.get(b"REQUEST_URI", b"")
    if not target:
        path = variables.get(b"SCRIPT_NAME", b"") + variables.get(b"PATH_INFO", b"")
        target = encode_path(path) or b"/"
        query = variables.get(b"QUERY_STRING", b"")
        if query:
            target += b"?" + query
    if _NOT_VISIBLE.search(target) is not None:
        target = _NOT_VISIBLE.sub(lambda found: b"%%%02X" % found[0][0], target)
    return target


def peer_of(variables: Mapping[bytes, bytes]) -> Peer:
    """The two sides of the client's connection, as the web server tells them."""
    secure = variables.get(b"HTTPS", b"").lower()
    https = secure in (b"on", b"1") if secure else variables.get(b"REQUEST_SCHEME") == b"https"
    return Peer(
        variables.get(b"REMOTE_ADDR", b""), variables.get(b"REMOTE_PORT", b""), variables.get(b"SERVER_ADDR", b""),
        variables.get(b"SERVER_PORT") or (b"443" if https else b"80"), https,
    )  # fmt: skip


# ---------------------------------------------------------------------- the response (RFC 3875 6)

_LENGTH: Final = 1
_STATUS: Final = 2
_marks: Final = Memo(lambda name: {b"content-length": 1, b"status": 2}.get(name.lower(), 0))


class ScriptResponseWriter:
    """One response, as CGI's stdout, FastCGI's STDOUT and SCGI's answer carry it."""

    __slots__ = ("remaining", "_silent", "_to_head")

    def __init__(self, request_method: bytes) -> None:
        self.remaining: int | None = None
        """Octets of content that have still to come, None where no length was declared."""
        self._to_head = request_method == b"HEAD"
        self._silent = False

    def head(self, response: Response) -> bytes:
        """The head. Hop-by-hop fields, and one called Status, are left out: they are the web server's, or ours.

        A Content-Length among the fields stays where there is no content (HEAD, 304), goes where it
        may not be (204), and has to agree with `response.length` everywhere else. Raises
        LocalProtocolError for fields that contradict the framing or would break a line.
        """
        status = response.status
        length = response.length
        if not 200 <= status <= 999:
            raise LocalProtocolError(f"{status} is no status of a final response")
        declared: bytes | None = None
        lines: list[FieldLine] = []
        for line in forwardable(response.fields):
            mark = _marks[line[0]]
            if not mark:
                lines.append(line)
            elif mark == _LENGTH:
                if declared is not None:
                    raise LocalProtocolError("more than one Content-Length")
                declared = line[1]
        if self._to_head or status == 204 or status == 304:
            self._silent = True
            if status == 204:
                declared = None
            elif declared is None and length and status != 304:
                declared = b"%d" % length
        elif length is not None:
            if declared is not None and (not declared.isdigit() or int(declared) != length):
                raise LocalProtocolError(f"Content-Length is {declared[:40]!r}, the length {length}")
            declared = b"%d" % length
            self.remaining = length
        elif declared is not None:
            raise LocalProtocolError("Content-Length for content of unknown length")
        if declared is not None:
            lines.append((b"Content-Length", declared))
        return encode_head(status, response.reason, lines)

    def count(self, length: int) -> bool:
        """Account for so many octets of content; False if none of them may be written (HEAD, 204, 304).

        Raises LocalProtocolError for more than were declared.
        """
        if self._silent:
            return False
        remaining = self.remaining
        if remaining is not None:
            if length > remaining:
                raise LocalProtocolError(f"{length - remaining} octets of content more than were declared")
            self.remaining = remaining - length
        return True

    def end(self) -> None:
        """The content is complete. Raises LocalProtocolError for less than was declared."""
        if self.remaining:
            raise LocalProtocolError(f"{self.remaining} octets of content less than were declared")

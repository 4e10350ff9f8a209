"""What field lines mean, whatever carries them (RFC 9110): names, lists, lengths, dates, conditions.

Promise: pure functions of bytes; a malformed value is refused or ignored exactly as the RFC says.
Must never know: which wire format the lines came from, and what time it is.
Next: `http1_grammar.py` for how a field line is spelt, `cgi.py` for what becomes of one in a script.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from protocols.memory import Memo
from protocols.message import FieldLine, FieldLines, RemoteProtocolError

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection",
     b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""Names, in lower case, of fields that concern one connection only: RFC 9110 7.6.1 and 11.7 (we are
the first recipient that could consume proxy credentials), and Trailer, since each side frames anew."""

lower: Callable[[bytes], bytes] = Memo(bytes.lower).__getitem__
"""A field name in lower case (RFC 9110 5.1: names are case-insensitive)."""


def first(fields: FieldLines, name_lower: bytes) -> bytes | None:
    """The value of the first line of that name (given in lower case), None if there is none."""
    for name, value in fields:
        if lower(name) == name_lower:
            return value
    return None


def all_values(fields: FieldLines, name_lower: bytes) -> list[bytes]:
    """The values of all lines of that name (given in lower case), in order."""
    return [value for name, value in fields if lower(name) == name_lower]


def tokens(value: bytes) -> list[bytes]:
    """The members of a list in lower case, empty ones left out (RFC 9110 5.6.1.2)."""
    return [member for part in value.split(b",") if (member := part.strip(b" \t").lower())]


def has_token(values: bytes | Iterable[bytes], token: bytes) -> bool:
    """Whether `token` (given in lower case) is a member of a list that one line or several make up."""
    if isinstance(values, bytes):
        return token in tokens(values)
    return any(token in tokens(value) for value in values)


# What an intermediary removes (RFC 9110 7.6.1)

_hop_by_hop = Memo(lambda name: name.lower() in HOP_BY_HOP)
_named = Memo(lambda value: frozenset(tokens(value)) - HOP_BY_HOP - {b"close"})


def forwardable(fields: FieldLines, *, keep_te_trailers: bool = False) -> list[FieldLine]:
    """The lines that may go further: neither hop-by-hop nor named by Connection.

    With `keep_te_trailers`, `TE: trailers` stays, in that form only: it may be forwarded by an
    intermediary that passes trailers on (RFC 9110 10.1.4), which then has to name TE in Connection.
    """
    kept = [line for line in fields if not _hop_by_hop[line[0]]]
    if len(kept) == len(fields):
        return kept
    for value in all_values(fields, b"connection"):
        if named := _named[value]:
            kept = [line for line in kept if lower(line[0]) not in named]
    if keep_te_trailers and has_token(all_values(fields, b"te"), b"trailers"):
        kept.append((b"TE", b"trailers"))
    return kept


_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    (b"content-length", b"host", b"content-encoding", b"content-type", b"content-range", b"authorization", b"cookie",
     b"set-cookie", b"www-authenticate", b"cache-control", b"pragma", b"expect", b"max-forwards", b"range",
     b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
     b"age", b"date", b"expires", b"location", b"retry-after", b"vary")
)  # fmt: skip


def trailers_onward(trailers: FieldLines) -> list[FieldLine]:
    """The trailer lines that may go further: none that frames, routes, changes or authenticates a message,
    or tells its content; who merges trailers into the fields would believe it (RFC 9110 6.5.1)."""
    return [line for line in trailers if lower(line[0]) not in _NOT_IN_TRAILERS]


# The length of content (RFC 9110 8.6)

LENGTH_DIGITS = 19
"""More digits than this do not fit into 63 bits, and are an attack or an accident."""


def content_length(values: Iterable[bytes]) -> int:
    """Octets that the Content-Length lines declare; equal repeats count as one (RFC 9110 8.6).

    Raises RemoteProtocolError for anything but digits, for unequal repeats and for no value at all.
    """
    members = {member.strip(b" \t") for value in values for member in value.split(b",")}
    if len(members) != 1:
        raise RemoteProtocolError("Content-Length is repeated with different values" if members else
                                  "Content-Length has no value")  # fmt: skip
    return one_length(members.pop())


def one_length(value: bytes) -> int:
    """Octets that one Content-Length value declares; raises RemoteProtocolError if it is not 1*DIGIT."""
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise RemoteProtocolError(f"Content-Length is {value[:40]!r}, not a number of octets")
    return int(value)


# Dates (RFC 9110 5.6.7)

_EPOCH = datetime(1970, 1, 1)
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_NUMBER = {name: number for number, name in enumerate(_MONTHS, 1)}

_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_SHORT_DAY = rb"(?:" + b"|".join(_DAYS) + rb")"
_LONG_DAY = rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_DATE_FORMATS = (
    re.compile(_SHORT_DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT"),
    re.compile(_LONG_DAY + rb", (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _TIME + rb" GMT"),
    re.compile(_SHORT_DAY + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})"),
)
"""IMF-fixdate, rfc850-date, asctime-date."""


def http_date(epoch_s: int) -> bytes:
    """IMF-fixdate of a point in time, seconds since 1970 in UTC."""
    when = _EPOCH + timedelta(seconds=epoch_s)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[when.weekday()], when.day, _MONTHS[when.month - 1], when.year,
        when.hour, when.minute, when.second,
    )  # fmt: skip


def parse_http_date(value: bytes) -> int | None:
    """Seconds since 1970 in UTC, from any of the three formats; None for what is no date.

    The two-digit years of the second format lie in 1969 to 2068, as in POSIX: there is no clock here.
    """
    for form in _DATE_FORMATS:
        if match := form.fullmatch(value):
            break
    else:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 69 else 2000
    month, day = _MONTH_NUMBER[match["month"]], int(match["day"])
    second = 59 if match["second"] == b"60" else int(match["second"])  # datetime has no leap seconds
    try:
        when = datetime(year, month, day, int(match["hour"]), int(match["minute"]), second)
    except ValueError:
        return None
    return int((when - _EPOCH).total_seconds())


# Conditions (RFC 9110 8.8.3, 13.1)

_ENTITY_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ENTITY_TAGS = re.compile(rb"[ \t,]*(?:" + _ENTITY_TAG + rb"(?:[ \t]*,[ \t,]*|[ \t]*\Z))+")
_ONE_ENTITY_TAG = re.compile(_ENTITY_TAG)


def etag_matches(value: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether a list of entity-tags, or `*`, holds `etag`, that of what exists (RFC 9110 8.8.3.2).

    `weak` compares as If-None-Match asks (13.1.2); the strong comparison of If-Match (13.1.1) and
    If-Range (13.1.5) finds a weak tag, on either side, never equal. A malformed list holds nothing.
    """
    if value == b"*":
        return True
    if not _ENTITY_TAGS.fullmatch(value):
        return False
    listed = _ONE_ENTITY_TAG.findall(value)
    if weak:
        return etag.removeprefix(b"W/") in [tag.removeprefix(b"W/") for tag in listed]
    return not etag.startswith(b"W/") and etag in listed


# Ranges (RFC 9110 14.1.2, 14.2)


class Unsatisfiable(enum.Enum):
    """The one answer of `parse_range` that is no list: status 416."""

    UNSATISFIABLE = "unsatisfiable"


UNSATISFIABLE: Literal[Unsatisfiable.UNSATISFIABLE] = Unsatisfiable.UNSATISFIABLE
Ranges: TypeAlias = list[tuple[int, int]]

RANGES = 16
"""More ranges than this in one request are not served: the field is ignored, as 14.2 allows."""

_RANGE_UNIT = re.compile(rb"bytes=", re.IGNORECASE)
_RANGE_SPEC = re.compile(rb"(\d{1,19})-(\d{1,19})?|-(\d{1,19})")


def parse_range(value: bytes, size: int) -> Ranges | Literal[Unsatisfiable.UNSATISFIABLE] | None:
    """The parts of `size` octets that a Range field asks for, as (start, stop) with `stop` excluded.

    None where the field is to be ignored: another unit, malformed, more than `RANGES` ranges, or
    ranges that overlap so much that together they are longer than the whole (14.2).
    """
    unit = _RANGE_UNIT.match(value)
    if unit is None or value.count(b",") > 2 * RANGES:
        return None
    ranges: Ranges = []
    end = unit.end()
    specs = [spec for part in value[end:].split(b",") if (spec := part.strip(b" \t"))]
    if not 0 < len(specs) <= RANGES:
        return None
    for spec in specs:
        match = _RANGE_SPEC.fullmatch(spec)
        if match is None:
            return None
        first_pos, last_pos, suffix = match.groups()
        if suffix is not None:
            start, stop = max(0, size - int(suffix)), size
        else:
            start = int(first_pos)
            if last_pos is not None and int(last_pos) < start:
                return None
            stop = size if last_pos is None else min(size, int(last_pos) + 1)
        if start < stop:
            ranges.append((start, stop))
    if not ranges:
        return UNSATISFIABLE
    if len(ranges) > 1 and sum(stop - start for start, stop in ranges) > size:
        return None
    return ranges

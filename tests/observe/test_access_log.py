"""The access log: known formats to the octet, the owner's format, and lines that no client can forge."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.access_log import (
    BUFFER_BYTES,
    FIELDS,
    NAMED_FORMATS,
    AccessLog,
    AccessRecord,
    Format,
    FormatError,
)

RECORD = AccessRecord(
    remote_addr=b"192.0.2.7", time=1_795_428_000.123, method=b"GET", target=b"/a?b=%20", version=b"HTTP/1.1",
    status=200, octets=1234,
    fields=[(b"Host", b"example.org"), (b"User-Agent", b"curl/8"), (b"REFERER", b"http://x/")],
    route="/a", interface="cgi", upstream="pid:71", upstream_s=0.0123, total_s=1.5, exchange=b"1f-2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def changed(**fields: Any) -> AccessRecord:
    return msgspec.structs.replace(RECORD, **fields)


def test_common() -> None:
    assert Format("common").line(RECORD) == (
        b'192.0.2.7 - - [23/Nov/2026:10:00:00 +0000] "GET /a?b=%20 HTTP/1.1" 200 1234\n'
    )


def test_combined() -> None:
    assert Format("combined").line(RECORD) == (
        b'192.0.2.7 - - [23/Nov/2026:10:00:00 +0000] "GET /a?b=%20 HTTP/1.1" 200 1234 "http://x/" "curl/8"\n'
    )


def test_combined_of_a_client_that_says_nothing() -> None:
    assert Format("combined").line(changed(fields=(), remote_addr=b"")) == (
        b'- - - [23/Nov/2026:10:00:00 +0000] "GET /a?b=%20 HTTP/1.1" 200 1234 "-" "-"\n'
    )


def test_json() -> None:
    assert json.loads(Format("json").line(RECORD)) == {
        "time": "2026-11-23T10:00:00Z", "remote_addr": "192.0.2.7", "method": "GET", "target": "/a?b=%20",
        "version": "HTTP/1.1", "status": 200, "octets": 1234, "host": "example.org", "referer": "http://x/",
        "user_agent": "curl/8", "route": "/a", "interface": "cgi", "upstream": "pid:71", "upstream_s": 0.012,
        "total_s": 1.5, "exchange": "1f-2",
    }  # fmt: skip


def test_json_without_an_upstream() -> None:
    line = json.loads(Format("json").line(changed(upstream="", upstream_s=math.nan)))
    assert (line["upstream"], line["upstream_s"]) == ("-", None)


def test_the_owner_s_format() -> None:
    text = '{time_iso} {{{route}}} 100% {status} {upstream_s} {total_s} {exchange} "{user_agent}"'
    assert Format(text).line(RECORD) == b'2026-11-23T10:00:00Z {/a} 100% 200 0.012 1.500 1f-2 "curl/8"\n'
    assert Format("{upstream_s}").line(changed(upstream_s=math.nan)) == b"-\n"


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_stand_alone(name: str) -> None:
    assert re.fullmatch(rb"\S.*\n", Format("{" + name + "}").line(RECORD))


def test_the_time_goes_on() -> None:
    form = Format("{time}")
    assert form.line(RECORD) == b"23/Nov/2026:10:00:00 +0000\n"
    assert form.line(changed(time=RECORD.time + 86400)) == b"24/Nov/2026:10:00:00 +0000\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{stauts}", "did you mean {status}?"),
        ("{nonsense_at_all}", "Known: time, time_iso, remote_addr"),
        ("{status:>5}", "takes nothing after its name"),
        ("{status!r}", "takes nothing after its name"),
        ("{status", "for a brace"),
        ("{}", "unknown field {}"),
        ("combned", "common, combined, json"),
        ("{status}\n", "line end"),
    ],
)
def test_a_mistake_in_a_format_is_told(text: str, told: str) -> None:
    with pytest.raises(FormatError, match=re.escape(told)):
        Format(text)


def test_a_client_cannot_end_its_field_or_its_line() -> None:
    line = Format("combined").line(changed(target=b'/"\\\x7f\xc3\xa9', fields=[(b"User-Agent", b'a" "b\n\x1b')]))
    assert line == (
        b'192.0.2.7 - - [23/Nov/2026:10:00:00 +0000] "GET /\\x22\\x5C\\x7F\\xC3\\xA9 HTTP/1.1" 200 1234 "-" '
        b'"a\\x22 \\x22b\\x0A\\x1B"\n'
    )


OCTETS = st.binary(max_size=30)


@settings(max_examples=80, deadline=None)
@given(target=OCTETS, agent=OCTETS, exchange=OCTETS)
def test_a_line_stays_a_line_whatever_clients_send(target: bytes, agent: bytes, exchange: bytes) -> None:
    record = changed(target=target, fields=[(b"user-agent", agent)], exchange=exchange)
    line = Format("combined").line(record)
    assert line.count(b"\n") == 1 and line.count(b'"') == 6
    assert line.isascii()
    assert json.loads(Format("json").line(record))["user_agent"] == (agent.decode("utf-8", "backslashreplace") or "-")


def test_lines_are_written_when_flushed(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), "{status}")
    log.log(RECORD)
    assert path.read_bytes() == b""
    log.flush()
    assert path.read_bytes() == b"200\n"
    log.log(RECORD)
    log.close()
    assert path.read_bytes() == b"200\n200\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_lines_are_written_when_there_are_many(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for _ in range(1000):
        log.log(RECORD)
    assert path.stat().st_size >= BUFFER_BYTES
    log.close()
    assert path.read_bytes().count(b"\n") == 1000


def test_a_renamed_file_keeps_what_was_noted_before_reopen(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), "{status}")
    log.log(RECORD)
    old = path.rename(tmp_path / "access.log.1")
    log.reopen()
    log.log(changed(status=404))
    log.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"200\n", b"404\n")


def test_no_log_at_all() -> None:
    log = AccessLog(None)
    log.log(RECORD)
    log.flush()
    log.reopen()
    log.close()


def test_stdout_is_a_dash(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("-", "{status}")
    log.log(RECORD)
    log.close()
    assert capfd.readouterr().out == "200\n"


def test_a_full_disk_is_told_once_and_breaks_nothing() -> None:
    told: list[str] = []
    log = AccessLog("/dev/full", "common", lambda level, text: told.append(f"{level}: {text}"))
    for _ in range(3):
        log.log(RECORD)
        log.flush()
    log.close()
    assert told == [
        "error: access log /dev/full cannot be written (No space left on device); requests go on, their lines are lost"
    ]


def test_after_a_full_disk_lines_are_whole_again_and_the_lost_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    told: list[str] = []
    log = AccessLog(str(path), "{target}", lambda level, text: told.append(text))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, limits[1]))
    try:
        for _ in range(3):
            log.log(changed(target=b"/123456789"))
        log.flush()
        log.log(changed(target=b"/lost"))
        log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"/123456789\n/123"
    log.log(changed(target=b"/new"))
    log.close()
    assert path.read_bytes() == b"/123456789\n/123\n/new\n"
    assert told[1] == f"access log {path} is written again; 3 lines were lost"


def test_a_file_that_cannot_be_reopened_stays_in_use(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    told: list[str] = []
    log = AccessLog(str(path), "{status}", lambda level, text: told.append(text))
    old = path.rename(tmp_path / "access.log.1")
    os.mkdir(path)
    log.reopen()
    log.log(RECORD)
    log.close()
    assert old.read_bytes() == b"200\n"
    assert "the old file stays in use" in told[0]


def test_the_named_formats_are_made_of_known_fields() -> None:
    for text in NAMED_FORMATS.values():
        Format(text)

"""The error log: one line a message, no flood, nothing that a script prints can do harm."""

from __future__ import annotations

import os
import re
import syslog
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ends import Close, Turn
from gateway.observe.error_log import REPEAT_S, STDERR_LINE_BYTES, ErrorLog, StderrLog, escaped
from gateway.observe.stderr_end import StderrEnd

NOON = 1_795_428_000.123
"""2026-11-23T10:00:00.123Z."""


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Written:
    """An error log in a file, and its lines without the time."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "error.log"
        self.clock = Clock()
        self.log = ErrorLog(str(self.path), clock=self.clock)

    @property
    def lines(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.path.read_text("utf-8").splitlines()]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_a_line_says_when_how_bad_whose_what_and_the_remedy(written: Written) -> None:
    written.log.log(
        "error", "502 bad-response: no header", remedy="print Content-Type",
        exchange="1f-2", route="/blog/", upstream="pid:71",
    )  # fmt: skip
    assert written.path.read_text() == (
        "2026-11-23T10:00:00.123Z error exchange=1f-2 route=/blog/ upstream=pid:71: "
        "502 bad-response: no header; print Content-Type\n"
    )


def test_what_is_not_known_is_left_out(written: Written) -> None:
    written.log.log("info", "ready")
    assert written.lines == ["info: ready"]


def test_a_message_cannot_forge_a_line_or_command_a_terminal(written: Written) -> None:
    written.log.log("warn", "a\nb\x1b[31m\x7f\x9b\u2028\u202e\udcff é", route="/\r\n")
    assert written.lines == ["warn route=/\\x0d\\x0a: a\\x0ab\\x1b[31m\\x7f\\x9b\\u2028\\u202e\\udcff é"]


def test_the_same_message_is_counted_and_told_later(written: Written) -> None:
    for number in range(5):
        written.log.log("error", "refused", exchange=str(number), route="/a")
    written.log.log("error", "refused", exchange="9", route="/b")
    written.log.flush()
    assert written.lines == ["error exchange=0 route=/a: refused", "error exchange=9 route=/b: refused"]
    written.clock.now += REPEAT_S
    written.log.flush()
    assert written.lines[2:] == ["error route=/a: refused (repeated 4 times)"]
    written.log.log("error", "refused", exchange="10", route="/a")
    assert written.lines[3:] == ["error exchange=10 route=/a: refused"]


def test_counts_are_not_lost_at_the_end(written: Written) -> None:
    for _ in range(3):
        written.log.log("warn", "slow")
    written.log.close()
    assert written.lines == ["warn: slow", "warn: slow (repeated 2 times)"]


def test_memory_is_bounded_with_ever_new_messages(written: Written) -> None:
    for number in range(2000):
        written.log.log("warn", f"message {number}")
    assert len(written.log._seen) <= 512
    assert len(written.lines) == 2000


def test_a_defect_is_one_line_with_its_traceback(written: Written) -> None:
    try:
        os.environb[b"missing"]
    except KeyError as error:
        written.log.defect(error)
    (line,) = written.lines
    assert line.startswith("error: defect: Traceback")
    assert "KeyError: b'missing'" in line and "test_error_log.py" in line


def test_a_renamed_file_is_left_after_reopen(written: Written) -> None:
    written.log.log("info", "old")
    old = written.path.rename(written.path.with_suffix(".1"))
    written.log.log("info", "still old")
    written.log.reopen()
    written.log.log("info", "new")
    assert [line[25:] for line in old.read_text().splitlines()] == ["info: old", "info: still old"]
    assert written.lines == ["info: new"]


def test_a_file_that_cannot_be_reopened_stays_in_use(written: Written) -> None:
    old = written.path.rename(written.path.with_suffix(".1"))
    written.path.mkdir()
    written.log.reopen()
    assert "cannot reopen the log" in old.read_text()


def test_a_full_disk_breaks_nothing() -> None:
    log = ErrorLog("/dev/full")
    log.log("error", "nobody will read this")
    log.close()


def test_stderr_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    log = ErrorLog()
    log.log("info", "ready")
    log.close()
    assert capfd.readouterr().err.endswith("Z info: ready\n")


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ErrorLog(str(tmp_path / "none" / "error.log"))


class TestStderrOfScripts:
    @pytest.fixture
    def stderr(self, written: Written) -> StderrLog:
        return written.log.stderr_of("1f", "/cgi-bin/")

    def test_each_line_is_marked_however_it_is_cut(self, written: Written, stderr: StderrLog) -> None:
        for piece in (b"one\ntw", b"o\r", b"\n\n", b"three"):
            stderr.write(piece)
        stderr.close()
        mark = "warn exchange=1f route=/cgi-bin/: stderr: "
        assert written.lines == [mark + "one", mark + "two", mark + "three"]
        assert list(stderr.last_lines) == ["one", "two", "three"]

    def test_what_is_printed_twice_is_logged_twice(self, written: Written, stderr: StderrLog) -> None:
        stderr.write(b"same\nsame\n")
        assert len(written.lines) == 2

    def test_octets_that_are_no_text_are_escaped(self, written: Written, stderr: StderrLog) -> None:
        stderr.write("é \x1b[2J".encode() + b"\xff\n")
        assert written.lines[0].endswith("stderr: é \\x1b[2J\\xff")

    def test_a_line_without_end_is_cut_marked_and_bounded(self, written: Written, stderr: StderrLog) -> None:
        for _ in range(100):
            stderr.write(b"x" * 10_000)
        assert stderr._size == 0
        stderr.write(b"\nnext\n")
        cut, left_out, following = written.lines
        assert cut.endswith(f"xxx [cut: no line end in {STDERR_LINE_BYTES} octets]")
        assert left_out.endswith(f"[{1_000_000 - STDERR_LINE_BYTES} octets of that line left out]")
        assert following.endswith(": next")

    def test_a_line_of_exactly_the_limit_is_whole(self, written: Written, stderr: StderrLog) -> None:
        stderr.write(b"x" * STDERR_LINE_BYTES)
        stderr.write(b"\n")
        assert written.lines == ["warn exchange=1f route=/cgi-bin/: stderr: " + "x" * STDERR_LINE_BYTES]

    def test_a_worker_s_end_notes_the_last_lines(self, written: Written) -> None:
        class Worker:
            pid = 0
            lines: deque[str] = deque()

        worker = Worker()
        end = StderrEnd(Turn(), written.log, "wiki", worker)
        worker.pid = 4711
        end.received(b"first\nlast\n", 0)
        assert list(worker.lines) == ["first", "last"]
        assert written.lines[-1] == "warn upstream=wiki:4711: stderr: last"
        end.received_eof(0)
        assert end.closing is Close.ABORT


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_cutting_of_stderr_gives_the_same_lines(pieces: list[bytes]) -> None:
    def lines_of(parts: list[bytes]) -> bytes:
        reader, writer = os.pipe()
        log = ErrorLog(f"/proc/self/fd/{writer}", clock=lambda: NOON)
        os.close(writer)
        stderr = log.stderr_of("", "")
        for part in parts:
            stderr.write(part)
        stderr.close()
        log.close()
        with os.fdopen(reader, "rb") as file:
            return file.read()

    octets = b"".join(pieces)
    assert lines_of(pieces) == lines_of([octets])
    assert lines_of(pieces).count(b"\n") == sum(1 for line in octets.split(b"\n") if line.rstrip())


@given(st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    told = escaped(text)
    assert len(f"{told}x".splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f]", told)


def test_syslog_gets_the_level_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: sent.append((priority, line)))
    log = ErrorLog("syslog")
    log.log("error", "down", route="/a")
    log.log("info", "up")
    log.reopen()
    log.close()
    assert sent == [(syslog.LOG_ERR, "error route=/a: down"), (syslog.LOG_INFO, "info: up")]

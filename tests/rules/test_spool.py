"""Content that is kept: in memory, then in a file without a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.spool import PIECE_BYTES, Spool
from tests.rules.conftest import Talks
from tests.rules.playbook import LOST, route
from tests.rules.words import Fastcgi, page, records


def read_all(spool: Spool) -> bytes:
    pieces = []
    while piece := spool.read():
        assert len(piece) <= PIECE_BYTES
        pieces.append(piece)
    assert spool.rest == 0
    return b"".join(pieces)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["write", "write", "read", "rewind"]), st.integers(1, 40))))
def test_it_gives_back_what_it_got_from_where_it_stands(steps: list[tuple[str, int]]) -> None:
    spool = Spool(memory_bytes=64)
    written, position = b"", 0
    for step, length in steps:
        if step == "write":
            octets = bytes((len(written) + i) % 251 for i in range(length))
            spool.write(octets)
            written += octets
        elif step == "read":
            piece = spool.read()
            assert written[position:].startswith(piece)
            assert piece or position == len(written)
            position += len(piece)
        else:
            spool.rewind()
            position = 0
        assert (spool.length, spool.rest) == (len(written), len(written) - position)
    spool.rewind()
    assert read_all(spool) == written
    if spool.whole is not None:
        assert spool.whole == written
    else:
        assert len(written) > 64
    spool.close()


def test_it_stays_in_memory_up_to_its_limit() -> None:
    spool = Spool(memory_bytes=10)
    spool.write(b"01234")
    spool.write(b"56789")
    assert spool.whole == b"0123456789"
    spool.write(b"x")
    assert spool.whole is None
    assert read_all(spool) == b"0123456789x"
    spool.close()


def test_nothing_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(memory_bytes=0)
    spool.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []
    assert spool.length == 100_000
    spool.close()
    spool.close()


def test_a_full_disk_is_500_with_its_remedy_and_asks_no_worker(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
    one.client.end.exchange.spool._file = open("/dev/full", "wb", buffering=0)  # type: ignore[union-attr]  # noqa: SIM115
    one.client >> b"x" * 100
    assert one.client.answer().status == 500
    assert not one.workers
    assert "TMPDIR" in one.log.text


def test_large_content_reaches_a_worker_whole_and_again(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    content = bytes(range(256)) * 1000
    one.client.post("/", content, method="PUT")
    for _ in range(2):
        stdin = [line[len("STDIN 1 ") :] for line in records(one.worker) if line.startswith("STDIN 1 ")]
        assert "".join(stdin).encode("latin-1") == content
        if len(one.workers) == 1:
            one.worker.say(LOST)
    Fastcgi(one.worker) >> page(1, b"done")
    assert one.client.answer().content == b"done"


@pytest.mark.parametrize("interface", ["cgi", "scgi", "fastcgi", "http"])
def test_a_disk_that_takes_nothing(talk: Talks, monkeypatch: pytest.MonkeyPatch, interface: str) -> None:
    """500, and a remedy that the interface knows."""
    monkeypatch.setattr("tempfile.tempdir", "/none")
    one = talk(route(interface))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + b"x" * 0x20000
    assert one.client.answer().status == 500
    assert "500 spool" in one.log.text
    assert "TMPDIR" in one.log.text
    assert ("request_buffering" in one.log.text) is (interface in ("fastcgi", "http"))

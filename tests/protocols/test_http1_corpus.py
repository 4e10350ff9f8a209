"""Messages from files, byte for byte: what is valid gives the events written beside it, the rest is refused.

Promise: every file is replayed whole, octet by octet and in threes, on both engines.
Must never know: how the reader works inside.
Next: `tests/corpus/http1/`; the name of an invalid request begins with the status it deserves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.http1 import Reading, RequestReader, ResponseReader, Tokeniser, tokeniser
from protocols.message import Content, EndOfMessage, Event, RemoteProtocolError, Request, Response

CORPUS = Path(__file__).parent.parent / "corpus" / "http1"
VALID = sorted((CORPUS / "valid").glob("*.http"))
INVALID = sorted((CORPUS / "invalid").glob("*.http"))

PIECES = {"whole": 1 << 20, "threes": 3, "octets": 1}


@pytest.fixture(params=["httptools", "h11"])
def engine(request: pytest.FixtureRequest) -> Tokeniser:
    return tokeniser(request.param)


def cut(octets: bytes, size: int) -> list[bytes]:
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def requests_in(octets: bytes, size: int, engine: Tokeniser) -> list[Event]:
    reader = RequestReader(engine)
    events: list[Event] = []
    for piece in cut(octets, size):
        events += reader.receive(piece)
        while reader.state is Reading.DONE and reader.held:
            events += reader.resume()
    if reader.state is Reading.DONE:
        reader.resume()
    reader.receive_eof()
    return events


def responses_in(octets: bytes, size: int, engine: Tokeniser) -> list[Event]:
    reader = ResponseReader(engine)
    reader.expect(b"GET")
    events: list[Event] = []
    for piece in cut(octets, size):
        events += reader.receive(piece)
    assert not reader.held
    return events + reader.receive_eof()


def events_in(path: Path, size: int, engine: Tokeniser) -> list[Event]:
    read = responses_in if path.name.startswith("response") else requests_in
    return read(path.read_bytes(), size, engine)


def written(events: list[Event]) -> str:
    """Events as lines of text; content that came in pieces is one line."""
    lines: list[str] = []
    content = b""
    for event in events:
        if isinstance(event, Content):
            content += event.data
            continue
        if content:
            lines.append(f"content {content!r}")
            content = b""
        if isinstance(event, Request):
            lines.append(f"request {event.method.decode()} {event.target.decode()} {event.version.decode()}")
            lines.append(f"  host {event.host.decode()!r} length {event.length}")
            flags = ["keep_alive"] * event.keep_alive + ["expects_continue"] * event.expects_continue
            if event.upgrade:
                flags.append(f"upgrade {event.upgrade.decode()}")
            lines.append(f"  {', '.join(flags) or 'closes'}")
        elif isinstance(event, Response):
            lines.append(f"response {event.status} {event.reason!r} length {event.length}")
            lines.append(f"  {'keep_alive' if event.keep_alive else 'closes'}")
        else:
            lines.append("end")
        fields = event.trailers if isinstance(event, EndOfMessage) else event.fields
        lines += [f"  {name!r}: {value!r}" for name, value in fields]
    if content:
        lines.append(f"content {content!r} without end")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("size", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_messages_give_the_events_written_beside_them(path: Path, size: int, engine: Tokeniser) -> None:
    assert written(events_in(path, size, engine)) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("size", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_messages_are_refused(path: Path, size: int, engine: Tokeniser) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        events_in(path, size, engine)
    assert "the stream ended" not in refusal.value.detail
    status = path.stem.partition("-")[0]
    if status != "response":
        assert refusal.value.status == int(status)


def test_the_corpus_is_there() -> None:
    assert len(VALID) > 30
    assert len(INVALID) > 100

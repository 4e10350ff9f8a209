"""The parser of multipart/form-data in the sample `upload.py`, as a property of any form."""

from __future__ import annotations

import hashlib
import io
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample_apps


def load() -> ModuleType:
    path = Path(sample_apps.__path__[0]) / "cgi-bin" / "upload.py"
    spec = util.spec_from_file_location("sample_upload", path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


upload = load()

letters = st.characters(exclude_categories=("C", "Z"), exclude_characters='"\\')
names = st.text(letters, min_size=1, max_size=20)
contents = st.one_of(
    st.binary(max_size=200),
    # What looks like a boundary and is none.
    st.lists(st.sampled_from([b"\r\n", b"--", b"\r\n--", b"bound", b"\r\n--boun", b"x"])).map(b"".join),
)


class Trickle(io.BytesIO):
    """Hands out few octets at a time, as a slow client does."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(self.most, size) if size is not None and size >= 0 else self.most)


@given(
    st.lists(st.tuples(names, st.none() | names, contents), max_size=4),
    st.sampled_from([b"", b"preamble", b"preamble\r\n"]),
    st.integers(1, 300),
)
def test_any_form_is_read_as_it_was_written(
    fields: list[tuple[str, str | None, bytes]], preamble: bytes, most: int
) -> None:
    boundary = b"boundary"
    out = preamble + b"\r\n" if preamble else b""
    for name, filename, content in fields:
        out += b'--%s\r\nContent-Disposition: form-data; name="%s"' % (boundary, name.encode())
        if filename is not None:
            out += b'; filename="%s"\r\nContent-Type: application/octet-stream' % filename.encode()
        out += b"\r\n\r\n" + content + b"\r\n"
    out += b"--" + boundary + b"--\r\nepilogue"
    content_type = 'multipart/form-data; charset=utf-8; boundary="boundary"'
    found = list(upload.parts(Trickle(out, most), content_type, len(out)))
    assert [(part.name, part.filename, part.size_bytes, part.digest.hexdigest()) for part in found] == [
        (name, filename, len(content), hashlib.sha256(content).hexdigest()) for name, filename, content in fields
    ]


@given(st.binary(max_size=300))
def test_no_octets_cause_another_error_than_the_documented_one(content: bytes) -> None:
    try:
        list(upload.parts(io.BytesIO(content), "multipart/form-data; boundary=b", len(content)))
    except upload.Malformed:
        pass


def test_memory_does_not_grow_with_a_part_that_never_ends() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n'
    endless = io.BytesIO(head + bytes(4 * 1024 * 1024))
    reader_limit_bytes = 2 * upload.PIECE_BYTES
    seen = []

    class Watched(upload.Reader):  # type: ignore[name-defined, misc]
        def more(self) -> None:
            super().more()
            seen.append(len(self.buffer))

    reader = Watched(endless, 4 * 1024 * 1024)
    with pytest.raises(upload.Malformed):
        for _ in reader.until(b"\r\n--b--"):
            pass
    assert max(seen) <= reader_limit_bytes

"""The rules of an exchange that a file answers, as conversations (RFC 9110 13 to 15)."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.interfaces.static import StaticInterface
from tests.rules.conftest import Talks
from tests.rules.playbook import Talk, route


@pytest.fixture
def site(talk: Talks, tmp_path: Path) -> Talk:
    (tmp_path / "page.txt").write_text("a page")
    return talk(route("static", root=os.fsencode(tmp_path), listing=True))


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file(site: Talk) -> None:
    site.client.get("/page.txt")
    answer = site.client.answer()
    assert (answer.status, answer.content, answer.complete) == (200, b"a page", True)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_condition_counts_beside_other_fields_or_alone(site: Talk, version: str) -> None:
    site.client.get("/page.txt")
    etag = site.client.answer().fields["etag"]
    host = b"Host: x\r\n" if version == "1.1" else b""
    other = site.connect()
    other >> b"GET /page.txt HTTP/%b\r\n%bIf-None-Match: %b\r\n\r\n" % (version.encode(), host, etag.encode())
    assert other.answer().status == 304


@pytest.mark.parametrize("path", ["/page.txt", "/", "/none"])
def test_no_descriptor_left_is_no_missing_file(site: Talk, path: str) -> None:
    with no_descriptor_left():
        site.client.get(path)
    answer = site.client.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")
    assert "503 descriptor-limit" in site.log.text
    assert "ulimit -n" in site.log.text


def test_a_listing_shows_links_that_lead_nowhere_or_in_circles(site: Talk, tmp_path: Path) -> None:
    os.symlink("circle", tmp_path / "circle")
    os.symlink("none", tmp_path / "nothing")
    site.client.get("/")
    answer = site.client.answer()
    assert answer.status == 200
    for name in (b"circle", b"nothing", b"page.txt"):
        assert name in answer.content


def test_a_small_file_that_is_kept_is_never_sent_as_it_was_before(site: Talk, tmp_path: Path) -> None:
    [service] = site.site.services
    assert isinstance(service.interface, StaticInterface)
    service.interface.settled_s = -1.0
    page = tmp_path / "page.txt"

    def asked() -> tuple[int, bytes]:
        client = site.connect()
        client.get("/page.txt")
        answer = client.answer()
        return answer.status, answer.content

    assert asked() == (200, b"a page")
    with no_descriptor_left():
        assert asked() == (200, b"a page")
    page.write_text("b page")
    assert asked() == (200, b"b page")
    (tmp_path / "other").write_text("c page")
    os.replace(tmp_path / "other", page)
    assert asked() == (200, b"c page")
    with no_descriptor_left():
        assert asked() == (200, b"c page")
    page.unlink()
    assert asked()[0] == 404


def test_a_file_that_was_just_changed_is_not_kept(site: Talk) -> None:
    site.client.get("/page.txt")
    assert site.client.answer().status == 200
    with no_descriptor_left():
        other = site.connect()
        other.get("/page.txt")
        assert other.answer().status == 503

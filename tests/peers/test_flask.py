"""A Flask application under all four interfaces: one word of the config changes, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers.hosted import INTERFACES, Visit, configs
from tests.peers.web_servers import APPLICATIONS

CONFIG = f"""
[[routes]]
path = "/shop/"
interface = "{{interface}}"
app = "shop"

[apps.shop]
wsgi = "flask_app:application"
directory = "{APPLICATIONS}"
"""
OCTETS = bytes(range(256)) * 2000


def pages_and_links(visit: Visit) -> None:
    page = visit.get("/shop/?what=tea")
    assert '<form method="post" action="/shop/">' in page.text
    assert 'value="tea"' in page.text
    assert 'href="/shop/item/7?size=l+%26+xl"' in page.text
    told = visit.get("/shop/item/7?size=l+%26+xl").json()
    assert told == {
        "number": 7, "size": "l & xl", "url": f"{visit.url}/shop/item/7?size=l+%26+xl", "root": f"{visit.url}/shop/",
        "script_root": "/shop", "path": "/item/7", "link": f"{visit.url}/shop/item/7", "address": "127.0.0.1",
    }  # fmt: skip
    assert visit.get("/shop/name/%C3%BC%20x%25").text == "<ü x%> /shop/name/%C3%BC%20x%25"
    assert visit.get("/shop/item/x").status_code == 404
    assert visit.get("/shop/upload").status_code == 405
    head = visit.ask("HEAD", "/shop/ordered")
    assert (head.status_code, head.content) == (403, b"")


def a_form_and_a_session(visit: Visit) -> None:
    assert visit.get("/shop/ordered").status_code == 403
    sent = visit.post("/shop/", data={"what": "tea & ü"})
    assert (sent.status_code, sent.headers["Location"]) == (302, "/shop/ordered")
    assert visit.session.cookies.keys() == ["session"]
    assert visit.get("/shop/ordered").text == "You ordered tea & ü."
    assert visit.post("/shop/", data={"who": "?"}).status_code == 400


def content_in_and_out(visit: Visit) -> None:
    told = visit.post("/shop/upload", data={"note": "ü"}, files={"file": ("ü.bin", OCTETS, "x/y")}).json()
    assert told == {"note": "ü", "name": "ü.bin", "type": "x/y", "bytes": len(OCTETS),
                    "sha256": hashlib.sha256(OCTETS).hexdigest()}  # fmt: skip
    made = visit.ask("PUT", "/shop/json", json={"a": [1, None]})
    assert (made.status_code, made.reason, made.headers["X-Made"]) == (201, "CREATED", "yes")
    assert made.json() == {"was": {"a": [1, None]}}
    assert visit.get("/shop/stream").content.decode().splitlines() == [f"line {n} with ü" for n in range(100)]


def a_file(visit: Visit) -> None:
    octets = (APPLICATIONS / "flask_app.py").read_bytes()
    whole = visit.get("/shop/file")
    assert (whole.content, whole.headers["Content-Length"]) == (octets, str(len(octets)))
    part = visit.get("/shop/file", headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, octets[3:10])
    same = visit.get("/shop/file", headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


def a_failure(visit: Visit) -> None:
    failed = visit.get("/shop/fail")
    assert failed.status_code == 500
    assert "nothing in store" not in failed.text


@pytest.fixture(scope="module")
def visited(gateway: Any) -> Callable[[str], list[Any]]:
    """What the whole visit sees over one interface; made once."""
    made: dict[str, list[Any]] = {}

    def visit(interface: str) -> list[Any]:
        if interface not in made:
            one = gateway(configs(CONFIG)[interface])
            with Visit(one.url) as visit:
                for part in (pages_and_links, a_form_and_a_session, content_in_and_out, a_file, a_failure):
                    part(visit)
            one.wait_for_log("LookupError: nothing in store")
            made[interface] = visit.seen
        return made[interface]

    return visit


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_visit(visited: Callable[[str], list[Any]], interface: str) -> None:
    assert len(visited(interface)) == 17


@pytest.mark.parametrize("interface", INTERFACES[1:])
def test_each_octet_is_the_same(visited: Callable[[str], list[Any]], interface: str) -> None:
    for mine, other in zip(visited(interface), visited("cgi")):
        assert mine == other

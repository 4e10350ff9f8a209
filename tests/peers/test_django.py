"""A Django project under all four interfaces, and its ASGI application: one word of the config changes at a time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
import requests

from tests.peers.hosted import INTERFACES, Visit, configs
from tests.peers.web_servers import APPLICATIONS

STATIC = Path(django.__path__[0]) / "contrib/admin/static"
OCTETS = bytes(range(256)) * 12_000  # more than Django keeps in memory
CONFIG = """
[[routes]]
path = "/library/"
interface = "{interface}"
app = "library"

[[routes]]
path = "/static/"
interface = "static"
root = "STATIC"

[apps.library]
wsgi = "django_app:application"
directory = "APPLICATIONS"
environment = {{ LIBRARY = "LIBRARY" }}
"""


def token(response: requests.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', response.text)
    assert found is not None, response.text
    return found[1]


def links(visit: Visit) -> None:
    page = visit.get("/library/")
    assert 'action="/library/"' in page.text
    assert 'href="/library/admin/"' in page.text
    told = visit.get("/library/told/%C3%BC%20x?q=%C3%BC").json()
    assert told == {"path": "/library/told/ü x", "path_info": "/told/ü x", "query": "ü", "address": "127.0.0.1",
                    "url": f"{visit.url}/library/told/%C3%BC%20x?q=%C3%BC"}  # fmt: skip
    moved = visit.get("/library/admin")
    assert (moved.status_code, moved.headers["Location"]) == (301, "/library/admin/")
    assert visit.get("/library/none").status_code == 404


def static_files(visit: Visit) -> None:
    octets = (STATIC / "admin/css/base.css").read_bytes()
    assert 'href="/static/admin/css/base.css"' in visit.get("/library/").text
    assert visit.get("/static/admin/css/base.css").content == octets
    own = visit.get("/library/files/admin/css/base.css")  # as Django serves it by itself
    assert (own.content, own.headers["Content-Length"]) == (octets, str(len(octets)))
    same = visit.get("/library/files/admin/css/base.css", headers={"If-Modified-Since": own.headers["Last-Modified"]})
    assert (same.status_code, same.content) == (304, b"")


def a_form(visit: Visit) -> None:
    form = {"csrfmiddlewaretoken": token(visit.get("/library/")), "book": "Sketch of the Engine", "until": "never"}
    wrong = visit.post("/library/", data=form)
    assert (wrong.status_code, "Enter a valid date." in wrong.text) == (200, True)
    right = visit.post("/library/", data={**form, "until": "1843-09-01"})
    assert (right.status_code, right.headers["Location"]) == (302, "/library/")
    assert "<p>Sketch of the Engine is yours until 1843-09-01</p>" in visit.get("/library/").text
    assert "is yours" not in visit.get("/library/").text
    assert visit.post("/library/", data={**form, "csrfmiddlewaretoken": "x" * 64}).status_code == 403


def the_admin(visit: Visit) -> None:
    asked = visit.get("/library/admin/")
    login = "/library/admin/login/?next=/library/admin/"
    assert (asked.status_code, asked.headers["Location"]) == (302, login)
    form = {"csrfmiddlewaretoken": token(visit.get(login)), "username": "ada", "password": "analytical engine",
            "next": "/library/admin/"}  # fmt: skip
    assert "Please enter the correct username and password" in visit.post(login, data=form).text
    entered = visit.post(login, data={**form, "password": "difference engine"})
    assert (entered.status_code, entered.headers["Location"]) == (302, "/library/admin/")
    assert sorted(visit.session.cookies.keys()) == ["csrftoken", "sessionid"]
    assert "Site administration" in visit.get("/library/admin/").text
    groups = "/library/admin/auth/group/"
    form = {"csrfmiddlewaretoken": token(visit.get(groups + "add/")), "name": "Readers & ü"}
    added = visit.post(groups + "add/", data=form)
    assert (added.status_code, added.headers["Location"]) == (302, groups)
    assert "Readers &amp; ü</a>" in visit.get(groups).text
    left = visit.post("/library/admin/logout/", data={"csrfmiddlewaretoken": form["csrfmiddlewaretoken"]})
    assert "Logged out" in left.text
    assert visit.get("/library/admin/").status_code == 302


def content_in_and_out(visit: Visit) -> None:
    told = visit.post("/library/upload", data={"note": "ü"}, files={"file": ("ü.bin", OCTETS)}).json()
    assert told == {"note": "ü", "name": "ü.bin", "bytes": len(OCTETS), "kept": "TemporaryUploadedFile",
                    "sha256": hashlib.sha256(OCTETS).hexdigest()}  # fmt: skip
    assert visit.get("/library/stream").text.splitlines() == [f"line {number}" for number in range(100)]


def a_failure(visit: Visit) -> None:
    failed = visit.get("/library/fail")
    assert failed.status_code == 500
    assert "Server Error (500)" in failed.text


@pytest.fixture(scope="module")
def library(directories: Any) -> Path:
    """A folder with a database in it, as it is before each visit."""
    directory: Path = directories("library")
    subprocess.run(
        [sys.executable, "django_app.py"], cwd=APPLICATIONS, check=True, env={**os.environ, "LIBRARY": str(directory)}
    )
    shutil.copy(directory / "library.sqlite3", directory / "fresh.sqlite3")
    return directory


Visited = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def visited(gateway: Any, library: Path) -> Visited:
    """What the whole visit sees over one interface; made once."""
    made: dict[tuple[str, str], list[Any]] = {}
    template = CONFIG.replace("STATIC", str(STATIC)).replace("APPLICATIONS", str(APPLICATIONS))
    template = template.replace('"LIBRARY"', f'"{library}"')

    def visit(interface: str, kind: str = "wsgi") -> list[Any]:
        if (interface, kind) not in made:
            config = configs(template)[interface]
            if kind == "asgi":
                config = config.replace('wsgi = "django_app:application"', 'asgi = "django_app:asgi_application"')
                assert 'asgi = "' in config
            shutil.copy(library / "fresh.sqlite3", library / "library.sqlite3")
            one = gateway(config)
            with Visit(one.url) as visit:
                for part in (links, static_files, a_form, the_admin, content_in_and_out, a_failure):
                    part(visit)
            one.wait_for_log("LookupError: the book is lost")
            made[interface, kind] = visit.seen
        return made[interface, kind]

    return visit


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_visit(visited: Visited, interface: str) -> None:
    assert len(visited(interface)) == 27


@pytest.mark.parametrize("interface", INTERFACES[1:])
def test_each_octet_is_the_same(visited: Visited, interface: str) -> None:
    for mine, other in zip(visited(interface), visited("cgi")):
        assert mine == other


@pytest.mark.parametrize("interface", ["http", "fastcgi"])
def test_the_asgi_application(visited: Visited, interface: str) -> None:
    for mine, other in zip(visited(interface, "asgi"), visited(interface)):
        assert mine == other

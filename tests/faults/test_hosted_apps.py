"""Applications that we host and that do wrong: the others' requests are untouched, and the log says what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.peers.hosted import INTERFACES
from tests.peers.web_servers import APPLICATIONS

ROUTE = """
[[routes]]
path = "/{app}"
interface = "{interface}"
app = "{app}"
[apps.{app}]
{kind} = "{name}"
directory = "{directory}"
"""
SLOW = """
[[routes]]
path = "/slow"
interface = "{interface}"
app = "{app}"
timeouts = {{ response = "1s" }}
"""


def route(interface: str, app: str, name: str, kind: str = "wsgi") -> str:
    return ROUTE.format(app=app, interface=interface, name=name, kind=kind, directory=APPLICATIONS)


Served = Callable[[str], Any]


@pytest.fixture(scope="module")
def served(gateway: Any) -> Served:
    """The gateway whose applications are reached over an interface."""
    made: dict[str, Any] = {}

    def serve(interface: str) -> Any:
        if interface not in made:
            text = route(interface, "good", "plain:application") + route(interface, "faulty", "faulty:application")
            made[interface] = gateway(text + SLOW.format(interface=interface, app="faulty"))
        return made[interface]

    return serve


@pytest.fixture(scope="module", params=INTERFACES)
def one(request: pytest.FixtureRequest, served: Served) -> Any:
    made = served(request.param)
    made.interface = request.param
    return made


def ask(one: Any, path: str, method: str = "GET") -> requests.Response:
    return requests.request(method, one.url + path, timeout=20)


def is_cut(one: Any, path: str) -> None:
    """The client learns that it did not get all: the connection ends too soon, or there is time to answer otherwise."""
    try:
        response = ask(one, path)
    except requests.RequestException:
        return
    assert response.status_code in (500, 502)


def all_is_well(one: Any) -> None:
    """Both applications answer, each its own."""
    assert ask(one, "/good/").text == "the root"
    assert (ask(one, "/faulty/").status_code, ask(one, "/faulty/").text) == (200, "whole")


# ---------------------------------------------------------------------- what can't be imported


CANNOT = {
    "no_module": ("shelves.poetry:application", ["no module shelves", "shelves.poetry"]),
    "broken": ("broken:application", ["module broken", "KeyError: 'poetry'", f"{APPLICATIONS}/broken.py:4"]),
    "no_attribute": ("faulty:nothing", ["module faulty", "no attribute 'nothing'", f"{APPLICATIONS}/faulty.py"]),
    "uncallable": ("faulty:TEXT", ["faulty:TEXT", "is a str"]),
}


@pytest.mark.parametrize("interface", INTERFACES)
def test_what_cannot_be_imported(gateway: Any, interface: str) -> None:
    text = "".join(route(interface, app, name) for app, (name, _) in CANNOT.items())
    one = gateway(text + route(interface, "good", "plain:application"))
    for app, (_, words) in CANNOT.items():
        response = ask(one, f"/{app}/")
        assert response.status_code == 503, app
        assert not any(word in response.text for word in words)
        for word in words:
            one.wait_for_log(word)
    assert ask(one, "/good/").text == "the root"


# ---------------------------------------------------------------------- what is no response


NONE = {
    "raises": "LookupError: raised at once", "raises-late": "LookupError: raised late", "raises-lines": "LookupError: two",
    "recursion": "RecursionError", "exits": "SystemExit: enough", "interrupt": "KeyboardInterrupt",
    "none": "None", "text": "str", "texts": "str", "number": "int", "unstarted": "start_response",
    "status-number": "200", "status-word": "fine", "status-lines": "200 OK", "fields-text": "fields",
    "field-number": "Content-Length", "field-lines": "Set-Cookie", "field-name": "X:Y Z",
    "short-list": "Content-Length is 10",
}  # fmt: skip


@pytest.mark.parametrize("page", NONE)
def test_what_is_no_response(one: Any, page: str) -> None:
    process = ask(one, "/faulty/pid").text
    before = len(one.error_log())
    response = ask(one, f"/faulty/{page}")
    assert response.status_code in (500, 502)
    assert "Set-Cookie" not in response.headers
    assert "raised" not in response.text
    one.wait_for_log(NONE[page])
    assert NONE[page] in one.error_log()[before:]
    assert "\nforged line" not in one.error_log()
    if one.interface != "cgi":  # where each request has a process of its own
        assert ask(one, "/faulty/pid").text == process
    all_is_well(one)


# ---------------------------------------------------------------------- what begins well


@pytest.mark.parametrize("page", ["short", "midway"])
def test_a_response_that_does_not_end(one: Any, page: str) -> None:
    is_cut(one, f"/faulty/{page}")
    if page == "midway":
        one.wait_for_log("LookupError: raised midway")
    all_is_well(one)


def test_content_beyond_its_length(one: Any) -> None:
    with requests.Session() as session:
        assert session.get(one.url + "/faulty/long", timeout=20).text == "four"
        assert session.get(one.url + "/faulty/", timeout=20).text == "whole"


def test_a_close_that_raises(one: Any) -> None:
    assert ask(one, "/faulty/closes-badly").text == "whole"
    one.wait_for_log("LookupError: raised in close")
    all_is_well(one)


# ---------------------------------------------------------------------- what is done to the process


def test_what_is_printed_is_no_part_of_a_response(one: Any) -> None:
    response = ask(one, "/faulty/prints")
    assert (response.status_code, response.text) == (200, "whole")
    for words in ("printed with print", "written to descriptor 1", "echoed by a program"):
        one.wait_for_log(words)
    all_is_well(one)


@pytest.mark.parametrize("page", ["closes-0", "closes-1"])
def test_descriptors_that_are_closed(gateway: Any, one: Any, page: str) -> None:
    """What is opened next gets the number of what was closed: to print may fail then, but goes to no client."""
    own = gateway(route(one.interface, "faulty", "faulty:application"))  # its process is not the same again
    assert ask(own, f"/faulty/{page}").text == "whole"
    for _ in range(3):
        with requests.Session() as session:
            printed = session.get(own.url + "/faulty/prints", timeout=20)
            assert printed.status_code == 500 or (printed.status_code, printed.text) == (200, "whole")
            assert session.get(own.url + "/faulty/", timeout=20).text == "whole"


@pytest.mark.parametrize("page", ["killed", "quits"])
def test_a_process_that_ends(one: Any, page: str) -> None:
    before = len(one.error_log())
    assert ask(one, f"/faulty/{page}", "POST").status_code in (502, 503)
    all_is_well(one)
    one.wait_for_log("SIGKILL" if page == "killed" else "code 3" if one.interface != "cgi" else "printed nothing")
    assert len(one.error_log()) > before


@pytest.mark.parametrize("page", ["forks-return", "forks-yield", "forks-quit", "forks-exit", "forks-fail"])
def test_an_application_that_forks(one: Any, page: str) -> None:
    process = ask(one, "/faulty/pid").text
    with requests.Session() as session:
        for _ in range(3):
            response = session.get(f"{one.url}/faulty/{page}", timeout=20)
            assert (response.status_code, response.text) == (200, "whole")
            assert session.get(f"{one.url}/faulty/", timeout=20).text == "whole"
    if one.interface != "cgi":
        assert ask(one, "/faulty/pid").text == process
    all_is_well(one)


def test_an_application_that_blocks_for_ever(one: Any) -> None:
    assert ask(one, "/slow/blocks").status_code == 504
    all_is_well(one)
    assert ask(one, "/faulty/release").text == "whole"  # so that its process can end at the end


# ---------------------------------------------------------------------- ASGI


@pytest.fixture(scope="module", params=["fastcgi", "http"])
def asgi(request: pytest.FixtureRequest, gateway: Any) -> Any:
    text = route(request.param, "faulty", "faulty:asgi_application", "asgi")
    text += route(request.param, "unstarted", "faulty:asgi_that_does_not_start", "asgi")
    return gateway(text + SLOW.format(interface=request.param, app="faulty"))


NONE_OF_ASGI = {
    "raises": "LookupError: raised at once", "nothing": "response", "unstarted": "http.response.start",
    "unknown": "http.response.nonsense", "text": "status", "field-lines": "set-cookie", "exits": "SystemExit: enough",
    "short-at-once": "Content-Length is 5",
}  # fmt: skip


@pytest.mark.parametrize("page", NONE_OF_ASGI)
def test_what_is_no_response_of_asgi(asgi: Any, page: str) -> None:
    before = len(asgi.error_log())
    response = ask(asgi, f"/faulty/{page}")
    assert response.status_code in (500, 502)
    assert "Set-Cookie" not in response.headers
    asgi.wait_for_log(NONE_OF_ASGI[page])
    assert NONE_OF_ASGI[page] in asgi.error_log()[before:]
    assert ask(asgi, "/faulty/").text == "whole"


@pytest.mark.parametrize("page", ["short", "midway"])
def test_a_response_of_asgi_that_does_not_end(asgi: Any, page: str) -> None:
    is_cut(asgi, f"/faulty/{page}")
    assert ask(asgi, "/faulty/").text == "whole"


def test_an_asgi_application_that_waits_for_ever(asgi: Any) -> None:
    assert ask(asgi, "/slow/blocks").status_code == 504
    assert ask(asgi, "/faulty/").text == "whole"


def test_an_asgi_application_whose_start_fails(asgi: Any) -> None:
    assert ask(asgi, "/unstarted/").status_code == 503
    asgi.wait_for_log("no shelves to be had")
    assert ask(asgi, "/faulty/").text == "whole"

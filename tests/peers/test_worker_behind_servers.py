"""`gateway worker` behind nginx, lighttpd and Apache httpd: what reaches the application, and what comes back."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from tests.peers.web_servers import HOST, SERVERS, Mount, Relay, WebServer, Worker, free_port, open_folder

HOSTED = {
    "fastcgi": ("fastcgi", "unix"),
    "fastcgi-tcp": ("fastcgi", "tcp"),
    "scgi": ("scgi", "unix"),
    "scgi-tcp": ("scgi", "tcp"),
    "http": ("http", "unix"),
}
PLACES = [f"{server} {mount}" for server in SERVERS for mount in HOSTED]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as directory:
        yield directory


class Workers:
    """Started all at once, since that is what takes time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.hosted = {name: self.start(*how, name) for name, how in HOSTED.items()}
        self.hosted["asgi"] = self.start("fastcgi", "unix", "asgi", "plain:asgi_application")

    def start(self, interface: str, family: str, name: str, app: str = "plain:application", **environment: str) -> Worker:
        bind = f"unix:{self.folder}/{name}.sock" if family == "unix" else f"{HOST}:{free_port()}"
        arguments = ["--interface", interface, "--bind", bind, app]
        worker = Worker(self.folder / f"{name}.log", bind, arguments, **environment)
        self.stack.callback(worker.stop)
        return worker


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    with ExitStack() as stack:
        made = Workers(folder, stack)
        for worker in made.hosted.values():
            worker.wait()
        yield made


@pytest.fixture(scope="module")
def relay(workers: Workers) -> Iterator[Relay]:
    one = Relay(workers.hosted["fastcgi-tcp"].address)
    yield one
    one.stop()


class Start:
    """Makes web servers that end with the module's tests."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.count = 0

    def __call__(self, name: str, mounts: list[Mount], more: str = "") -> WebServer:
        self.count += 1
        server = SERVERS[name](self.folder / f"{name}-{self.count}", mounts, more)
        self.stack.callback(server.stop)
        return server


@pytest.fixture(scope="module")
def start(folder: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield Start(folder, stack)


@pytest.fixture(scope="module")
def servers(workers: Workers, relay: Relay, start: Start) -> Any:
    """A web server by its name, with all workers behind it."""
    mounts = [Mount(f"/{name}", how[0], workers.hosted[name].address) for name, how in HOSTED.items()]
    mounts.append(Mount("/asgi", "fastcgi", workers.hosted["asgi"].address))
    mounts.append(Mount("/kept", "fastcgi", relay.address, kept=True))
    made: dict[str, WebServer] = {}

    def server(name: str) -> WebServer:
        if name not in made:
            made[name] = start(name, mounts)
        return made[name]

    return server


class Place(NamedTuple):
    """A worker behind a web server."""

    server: WebServer
    kind: str
    mount: str
    worker: Worker
    session: requests.Session

    @property
    def url(self) -> str:
        return self.server.url + self.mount

    @property
    def interface(self) -> str:
        return HOSTED[self.mount.strip("/")][0]

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=20, **more)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, servers: Any, workers: Workers) -> Iterator[Place]:
    kind, _, name = request.param.partition(" ")
    with requests.Session() as session:
        yield Place(servers(kind), kind, f"/{name}", workers.hosted[name], session)


everywhere = pytest.mark.parametrize("place", PLACES, indirect=True)
but_for_scgi_of_apache = pytest.mark.parametrize(
    "place", [place for place in PLACES if "apache scgi" not in place], indirect=True
)  # fmt: skip


@everywhere
def test_what_the_application_is_told(place: Place) -> None:
    told = place.get("/environ/a?x=%C3%A9&y", headers={"X-Some": "thing"}).json()
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": place.mount, "PATH_INFO": "/environ/a",
        "QUERY_STRING": "x=%C3%A9&y", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": HOST, "HTTP_X_SOME": "thing",
        "HTTP_HOST": f"{HOST}:{place.server.port}", "wsgi.url_scheme": "http",
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
    if place.interface != "http":  # there, the worker knows its own only
        expected["SERVER_PORT"] = str(place.server.port)
    assert {name: told.get(name) for name in expected} == expected
    assert told.get("CONTENT_LENGTH", "") in ("", "0")
    assert told.get("FCGI_ROLE") == ("RESPONDER" if place.interface == "fastcgi" else None)


@but_for_scgi_of_apache
def test_a_path_with_more_than_ascii(place: Place) -> None:
    """Apache does not decode PATH_INFO for SCGI, and takes the whole path for SCRIPT_NAME then."""
    told = place.get("/environ/a%20b/%C3%A9%25%3F?x").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == (place.mount, "/environ/a b/\xc3\xa9%?")


@everywhere
@pytest.mark.parametrize("path", ["", "/"])
def test_the_mount_itself(place: Place, path: str) -> None:
    assert place.get(path).text == "the root"


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("interface", ["fastcgi", "scgi"])
def test_a_mount_at_the_root(workers: Workers, start: Start, kind: str, interface: str) -> None:
    server = start(kind, [Mount("/", interface, workers.hosted[interface].address)])
    told = requests.get(f"{server.url}/environ/x", timeout=20).json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("", "/environ/x")
    assert requests.get(server.url, timeout=20).text == "the root"


@everywhere
def test_content_comes_back(place: Place) -> None:
    for octets in (b"", b"five!", bytes(range(256)) * 4096):
        response = place.session.post(place.url + "/echo", data=octets, headers={"Content-Type": "x/y"}, timeout=20)
        assert response.content == octets
        assert response.headers["Content-Type"] == "x/y"
        assert response.headers["Content-Length"] == str(len(octets))


@but_for_scgi_of_apache
def test_content_of_unknown_length(place: Place) -> None:
    """Apache answers 411 by itself where SCGI would have to know the length."""
    pieces = (b"x" * 1000 for _ in range(100))
    assert place.session.post(place.url + "/echo", data=pieces, timeout=20).content == b"x" * 100_000


@everywhere
def test_head(place: Place) -> None:
    response = place.session.head(place.url + "/", timeout=20)
    assert (response.status_code, response.headers["Content-Length"], response.content) == (200, "8", b"")
    assert place.get("/").text == "the root"  # on the same connection: nothing came behind the head


@everywhere
@pytest.mark.parametrize(("path", "status"), [("/none", 204), ("/same", 304)])
def test_responses_without_content(place: Place, path: str, status: int) -> None:
    response = place.get(path)
    assert (response.status_code, response.headers["ETag"], response.content) == (status, '"x"', b"")
    assert place.get("/").text == "the root"


@everywhere
def test_each_piece_comes_before_the_next_is_made(place: Place) -> None:
    name = uuid.uuid4().hex
    seen = []
    with place.session.get(f"{place.url}/stream?name={name}", stream=True, timeout=20) as response:
        pieces = response.iter_content(9)
        for _ in range(20):
            seen.append(next(pieces))
            requests.get(f"{place.url}/open?name={name}", timeout=20)
        assert next(pieces, None) is None
    assert seen == [b"piece %2d\n" % number for number in range(20)]


@everywhere
def test_several_cookies(place: Place) -> None:
    response = place.get("/cookies")
    assert response.raw.headers.getlist("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]


@everywhere
def test_the_status_and_its_reason(place: Place) -> None:
    response = place.get("/reason")
    assert (response.status_code, response.text) == (418, "tea")
    if place.kind != "lighttpd":  # it has reasons of its own
        assert response.reason == "I'm A Teapot"


@everywhere
def test_an_application_that_raises(place: Place) -> None:
    process = place.get("/pid").text
    response = place.get("/error")
    assert response.status_code == 500
    assert "ZeroDivisionError" not in response.text
    place.worker.wait_for_log("ZeroDivisionError: the application is wrong")
    assert place.get("/pid").text == process


def break_off(place: Place, query: str) -> None:
    """Read what is there of a response, and what is not."""
    name = uuid.uuid4().hex
    url = f"{place.url}/breaks-off?name={name}{query}"
    with requests.get(url, headers={"Connection": "close"}, stream=True, timeout=20) as response:
        pieces = response.iter_content(4000)
        seen = b""
        while len(seen) < 4000:
            seen += next(pieces)
        place.get(f"/open?name={name}")
        with pytest.raises(requests.RequestException):
            seen += next(pieces)
    assert place.get("/").text == "the root"


@everywhere
def test_a_break_before_the_content_is_complete(place: Place) -> None:
    break_off(place, "&length=5000")


@pytest.mark.parametrize(
    "place",
    ["nginx http", "lighttpd fastcgi", "lighttpd fastcgi-tcp", "apache fastcgi", "apache fastcgi-tcp", "apache http"],
    indirect=True,
)
def test_a_break_in_content_of_unknown_length(place: Place) -> None:
    """With SCGI nobody can tell it from the end, nor with HTTP/1.0, as lighttpd speaks it."""
    break_off(place, "")


def test_a_break_that_nginx_sees_where_it_keeps_connections(servers: Any) -> None:
    """And buffers; else, the end of a FastCGI connection is the end of a response to it."""
    with pytest.raises(requests.RequestException):
        requests.get(f"{servers('nginx').url}/kept/breaks-off", timeout=20)


@everywhere
def test_thirty_at_once_get_their_own(place: Place) -> None:
    barrier = threading.Barrier(30)

    def ask(number: int) -> bool:
        octets = bytes([number]) * 20_000
        barrier.wait(20)
        return requests.post(place.url + "/echo", data=octets, timeout=20).content == octets

    with ThreadPoolExecutor(30) as threads:
        assert list(threads.map(ask, range(30))) == [True] * 30


@everywhere
def test_a_client_that_leaves_closes_the_iterator(place: Place) -> None:
    name = uuid.uuid4().hex
    with socket.create_connection((HOST, place.server.port), timeout=20) as client:
        client.sendall(f"GET {place.mount}/endless?name={name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(20).startswith(b"HTTP/1.1 200")
    assert place.get(f"/closed?name={name}").text == "True"


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_connections_that_the_web_server_keeps(servers: Any, relay: Relay, kind: str) -> None:
    url = f"{servers(kind).url}/kept"
    with requests.Session() as session:
        assert session.get(f"{url}/", timeout=20).text == "the root"
        before = relay.connections
        for number in range(10):
            assert session.post(f"{url}/echo", data=str(number), timeout=20).text == str(number)
        assert session.get(f"{url}/error", timeout=20).status_code == 500
        assert session.get(f"{url}/", timeout=20).text == "the root"
    assert relay.connections == before


def test_connections_that_nobody_keeps(servers: Any, relay: Relay) -> None:
    """lighttpd asks for no kept connection (FCGI_KEEP_CONN is 0), and waits for the worker to close it."""
    before = relay.connections
    for _ in range(5):
        assert requests.get(f"{servers('lighttpd').url}/kept/", timeout=20).text == "the root"
    assert relay.connections == before + 5


# ---------------------------------------------------------------------- ASGI


@pytest.fixture(scope="module", params=SERVERS)
def asgi(request: pytest.FixtureRequest, servers: Any) -> str:
    return f"{servers(request.param).url}/asgi"


def test_the_scope_of_asgi(asgi: str) -> None:
    scope = requests.get(f"{asgi}/scope/%C3%A9?a=%20", headers={"X-Some": "thing"}, timeout=20).json()
    assert (scope["type"], scope["method"], scope["scheme"]) == ("http", "GET", "http")
    assert (scope["root_path"], scope["path"], scope["query_string"]) == ("/asgi", "/asgi/scope/é", "a=%20")
    assert ["x-some", "thing"] in scope["headers"]
    assert scope["client"][0] == HOST


def test_content_over_asgi(asgi: str) -> None:
    octets = bytes(range(256)) * 4096
    assert requests.post(f"{asgi}/echo", data=octets, timeout=20).content == octets


def test_streaming_over_asgi(asgi: str) -> None:
    name = uuid.uuid4().hex
    with requests.get(f"{asgi}/stream?name={name}", stream=True, timeout=20) as response:
        pieces = response.iter_content(9)
        for number in range(20):
            assert next(pieces) == b"piece %2d\n" % number
            requests.get(f"{asgi}/open?name={name}", timeout=20)
        assert next(pieces, None) is None


def test_a_client_that_leaves_an_asgi_application(asgi: str) -> None:
    name = uuid.uuid4().hex
    with requests.get(f"{asgi}/endless?name={name}", stream=True, timeout=20) as response:
        assert response.raw.read(5) == b"xxxxx"
    assert requests.get(f"{asgi}/closed?name={name}", timeout=20).text == "True"


# ---------------------------------------------------------------------- FastCGI's further roles and rules


@pytest.fixture(scope="module")
def authorizer(workers: Workers) -> Worker:
    return workers.start("fastcgi", "tcp", "authorizer", "plain:authorizer").wait()


def test_the_authorizer_of_lighttpd(workers: Workers, authorizer: Worker, start: Start) -> None:
    host, _, port = authorizer.address.rpartition(":")
    guard = f'"host" => "{host}", "port" => {port}, "check-local" => "disable", "mode" => "authorizer"'
    inside = f'"socket" => "{workers.hosted["fastcgi"].address[5:]}", "check-local" => "disable"'
    server = start("lighttpd", [], f'fastcgi.server = ("/" => (({guard})), "/inside" => (({inside})))\n')
    word = {"X-Word": "open sesame"}
    assert requests.get(f"{server.url}/file.txt", headers=word, timeout=20).text == "a file"
    refused = requests.get(f"{server.url}/file.txt", timeout=20)
    assert (refused.status_code, refused.text) == (403, "forty thieves")
    told = requests.get(f"{server.url}/inside/environ", headers=word, timeout=20).json()
    assert told["VISITOR"] == "Ali Baba"
    assert told["FCGI_ROLE"] == "RESPONDER"
    # content is the responder's alone
    sent = requests.post(f"{server.url}/inside/echo", headers=word, data=b"x" * 10_000, timeout=20)
    assert sent.content == b"x" * 10_000
    assert requests.post(f"{server.url}/inside/echo", data=b"x" * 10_000, timeout=20).status_code == 403


def test_the_authorizer_of_apache(workers: Workers, authorizer: Worker, start: Start) -> None:
    """It asks for name and password, and so both who it is and whether it may."""
    server = start("apache", [Mount("/inside", "fastcgi", workers.hosted["fastcgi"].address)], f"""
        AuthnzFcgiDefineProvider authn cave fcgi://{authorizer.address}/
        <Location "/inside">
        AuthType Basic
        AuthName cave
        AuthBasicProvider cave
        Require valid-user
        </Location>
    """)  # fmt: skip
    told = requests.get(f"{server.url}/inside/environ", auth=("ali", "open sesame"), timeout=20)
    assert (told.status_code, told.json()["REMOTE_USER"], told.json()["VISITOR"]) == (200, "ali", "Ali Baba")
    assert requests.get(f"{server.url}/inside/environ", auth=("ali", "open wheat"), timeout=20).status_code == 401


def test_a_web_server_that_is_not_named(workers: Workers, start: Start) -> None:
    worker = workers.start("fastcgi", "tcp", "guarded", FCGI_WEB_SERVER_ADDRS="127.0.0.3,127.0.0.2").wait()
    mounts = [Mount("/named", "fastcgi", worker.address, more="fastcgi_bind 127.0.0.2;"),
              Mount("/unnamed", "fastcgi", worker.address)]  # fmt: skip
    server = start("nginx", mounts)
    assert requests.get(f"{server.url}/named/", timeout=20).text == "the root"
    assert requests.get(f"{server.url}/unnamed/", timeout=20).status_code == 502
    worker.wait_for_log("FCGI_WEB_SERVER_ADDRS")

"""Workers of our own under load: they grow, shrink, are replaced, hang and die; no planned change loses a request."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import eventually, needs
from tests.faults.clients import load

PERL = """use FCGI;
my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    read(STDIN, my $content, $ENV{CONTENT_LENGTH} || 0);
    my ($query) = $ENV{QUERY_STRING};
    while ($query =~ /^wait=(.*)/ && !-e $1) { select(undef, undef, undef, 0.01) }
    print "Content-Type: text/plain\\r\\n\\r\\n$$ $ENV{REQUEST_METHOD} $query $content";
}
"""
PHP = """<?php $query = $_SERVER["QUERY_STRING"];
while (str_starts_with($query, "wait=") && !file_exists(substr($query, 5))) { usleep(10000); clearstatcache(); }
echo getmypid(), " ", $_SERVER["REQUEST_METHOD"], " $query ", file_get_contents("php://input");
"""
FLUP = """import os, sys, time
from flup.server.{module} import WSGIServer
def application(environ, start_response):
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    query = environ["QUERY_STRING"]
    while query.startswith("wait=") and not os.path.exists(query[5:]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%d %s %s %s" % (os.getpid(), environ["REQUEST_METHOD"], query, content.decode())).encode()]
WSGIServer(application{bind}).run()
"""
SCGI = """import os, socket, time
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    stream = connection.makefile("rb")
    length = b""
    while (octet := stream.read(1)) != b":":
        length += octet
    words = stream.read(int(length)).split(b"\\0")
    stream.read(1)
    environ = dict(zip(words[::2], words[1::2]))
    content = stream.read(int(environ[b"CONTENT_LENGTH"]))
    query = environ[b"QUERY_STRING"]
    while query.startswith(b"wait=") and not os.path.exists(query[5:]):
        time.sleep(0.01)
    text = b"%d %s %s %s" % (os.getpid(), environ[b"REQUEST_METHOD"], query, content)
    try:
        connection.sendall(b"Content-Type: text/plain\\r\\n\\r\\n" + text)
    except OSError:
        pass
    stream.close()
    connection.close()
"""
WSGI = """import os
def application(environ, start_response):
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['REQUEST_METHOD']} {environ['QUERY_STRING']} {content}".encode()]
"""
ENGINES = {"one": "processes = 1", "two": "processes = 2", "prefork": 'concurrency = "prefork"\nprocesses = 3'}
EVERYWHERE = [("php", engines) for engines in ENGINES]
"""One kind of worker under all engines; the others, of which each does something of its own, under two."""


class Pool:
    """A gateway with one application on /."""

    def __init__(self, gateway: Any, directory: Path, kind: str, workers: str, server: str = "", more: str = "") -> None:
        self.directory = directory
        interface, route = "fastcgi", ""
        if kind == "perl":
            (directory / "worker.pl").write_text(PERL)
            command = [needs("perl"), "worker.pl"]
        elif kind == "php":
            (directory / "index.php").write_text(PHP)
            command = [needs("php-cgi")]
            route = f'root = "{directory}"\nindex = ["index.php"]\nsplit = ".php"\n'
        elif kind == "flup":
            (directory / "worker.py").write_text(FLUP.format(module="fcgi", bind=""))
            command = [sys.executable, "worker.py"]
        else:
            interface = "scgi"
            (directory / "worker.py").write_text(SCGI)
            command = [sys.executable, "worker.py"]
        words = ", ".join(f'"{word}"' for word in command)
        self.gateway = gateway(
            f'[[routes]]\npath = "/"\ninterface = "{interface}"\napp = "x"\n{route}{more}\n'
            f'[apps.x]\ncommand = [{words}]\ninterface = "{interface}"\nworkers = {workers}\n'
            'environment = { PHP_FCGI_MAX_REQUESTS = "0" }\n',
            server=server, directory=directory,
        )  # fmt: skip

    def ask(self, path: str = "/", **arguments: Any) -> requests.Response:
        return requests.get(self.gateway.url + path, timeout=30, **arguments)

    def waits(self, count: int) -> tuple[Path, list[threading.Thread], list[requests.Response]]:
        """So many requests that are answered once the file is there."""
        go = self.directory / "go"
        answers: list[requests.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(self.ask(f"/?wait={go}"))) for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        return go, threads, answers

    def log(self, text: str) -> int:
        return int(self.gateway.error_log().count(text))


@pytest.mark.parametrize(("kind", "engines"), [*EVERYWHERE, ("perl", "two"), ("scgi", "two")])
def test_a_pool_grows_with_its_requests_and_shrinks_again(gateway: Any, tmp_path: Path, kind: str, engines: str) -> None:
    pool = Pool(gateway, tmp_path, kind, '{ min = 0, max = 3, idle = "1s" }', ENGINES[engines])
    assert pool.log("worker") == 0
    go, threads, answers = pool.waits(5)  # two of them wait until one of the three is free
    eventually(lambda: len(workers_of(pool)) == 3, "three workers")
    go.write_text("")
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.text.split()[0] for answer in answers}) == 3
    eventually(lambda: not workers_of(pool), "the end of all that are idle")
    assert pool.ask("/?again").text.split()[1:] == ["GET", "again"]


def workers_of(pool: Pool) -> list[int]:
    """The processes of the application, as the gateway's descendants."""
    found = []
    for pid in pool.gateway.descendants():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"gateway" not in words:
            found.append(pid)
    return found


@pytest.mark.parametrize(("kind", "engines"), [*EVERYWHERE, ("perl", "two"), ("scgi", "two"), ("flup", "two")])
def test_recycling_loses_no_request(gateway: Any, tmp_path: Path, kind: str, engines: str) -> None:
    pool = Pool(gateway, tmp_path, kind, "{ min = 2, max = 2, requests = 20 }", ENGINES[engines])
    with load(pool.gateway) as clients:
        clients.while_not(lambda: len(clients.tally.by) >= 6)
    assert pool.log("it has served") >= 3
    assert pool.log("SIGKILL") == 0


def test_a_pool_that_shrinks_under_load_loses_no_request(gateway: Any, tmp_path: Path) -> None:
    pool = Pool(gateway, tmp_path, "perl", '{ min = 1, max = 6, idle = "300ms" }')
    with load(pool.gateway, clients=1) as clients:
        for _ in range(3):
            before = pool.log("it was idle")
            (tmp_path / "go").unlink(missing_ok=True)
            go, threads, answers = pool.waits(4)
            eventually(lambda: len(workers_of(pool)) >= 4, "growth")
            go.write_text("")
            for thread in threads:
                thread.join()
            assert [answer.status_code for answer in answers] == [200] * 4
            clients.while_not(lambda before=before: pool.log("it was idle") >= before + 3)


@pytest.mark.parametrize("kind", ["perl", "php", "scgi"])
@pytest.mark.parametrize("how", ["busy", "response"])
def test_a_worker_that_hangs_is_ended_and_its_request_answered_504(
    gateway: Any, tmp_path: Path, kind: str, how: str
) -> None:
    busy, more = ("1s", "") if how == "busy" else ("0", 'timeouts = { response = "4s" }')
    pool = Pool(gateway, tmp_path, kind, f'{{ min = 1, max = 2, busy = "{busy}" }}', more=more)
    before = pool.ask("/?x").text.split()[0]
    assert pool.ask(f"/?wait={tmp_path}/never").status_code == 504
    assert pool.ask("/?again").text.split()[1:] == ["GET", "again"]
    assert pool.ask("/?again").text.split()[0] != before


def test_the_crash_of_a_worker_costs_what_it_had_and_nothing_else(gateway: Any, tmp_path: Path) -> None:
    pool = Pool(gateway, tmp_path, "perl", "2")
    go, threads, answers = pool.waits(1)
    eventually(lambda: len(workers_of(pool)) == 2, "two workers")
    for pid in workers_of(pool):
        os.kill(pid, signal.SIGKILL)
    go.write_text("")
    threads[0].join()
    assert answers[0].status_code == 200  # it may be repeated
    assert requests.post(pool.gateway.url + "/", data=b"word", timeout=30).text.split()[1:] == ["POST", "word"]


@pytest.mark.parametrize(
    ("interface", "engines"), [("fastcgi", "one"), ("fastcgi", "prefork"), ("scgi", "two"), ("http", "two")]
)
def test_a_hosted_application_whose_lifetime_is_over_is_replaced_without_a_lost_request(
    gateway: Any, tmp_path: Path, interface: str, engines: str
) -> None:
    (tmp_path / "hosted.py").write_text(WSGI)
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "{interface}"\napp = "x"\n'
        '[apps.x]\nwsgi = "hosted:application"\nthreads = 4\nworkers = { max = 1, lifetime = "1s" }\n',
        server=ENGINES[engines], directory=tmp_path,
    )  # fmt: skip
    with load(one) as clients:
        clients.while_not(lambda: len(clients.tally.by) >= 4)


@pytest.mark.parametrize("interface", ["fastcgi", "scgi", "http"])
@pytest.mark.parametrize("concurrency", ["prefork", "threadpool", "event"])
def test_processes_of_a_hosted_application_that_have_served_enough_lose_no_request(
    gateway: Any, tmp_path: Path, interface: str, concurrency: str
) -> None:
    (tmp_path / "hosted.py").write_text(WSGI)
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "{interface}"\napp = "x"\n[apps.x]\nwsgi = "hosted:application"\n'
        f'concurrency = "{concurrency}"\nworkers = {{ max = 2, requests = 50 }}\n',
        directory=tmp_path,
    )  # fmt: skip
    with load(one, clients=4) as clients:
        clients.while_not(lambda: len(clients.tally.by) >= 6)

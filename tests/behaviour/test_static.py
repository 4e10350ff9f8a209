"""Files of a directory, and `gateway serve DIRECTORY`; what is said when a server cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT

BIG = os.urandom(5 << 20)


@pytest.fixture(scope="module")
def site(gateway: Any, directories: Any, model: str) -> Any:
    directory: Path = directories("static")
    (directory / "www" / "sub").mkdir(parents=True)
    (directory / "www" / "list").mkdir()
    (directory / "www" / "index.html").write_text("front page")
    (directory / "www" / "sub" / "index.html").write_text("sub page")
    (directory / "www" / "list" / "a&b.txt").write_text("ampersand")
    (directory / "www" / "empty").touch()
    (directory / "www" / "big.bin").write_bytes(BIG)
    (directory / "www" / ".secret").write_text("secret")
    (directory / "secret").write_text("secret")
    os.symlink(directory / "secret", directory / "www" / "away")
    os.symlink("index.html", directory / "www" / "near")
    os.mkfifo(directory / "www" / "fifo")
    return gateway(
        f'[[routes]]\npath = "/"\ninterface = "static"\nroot = "{directory}/www"\n'
        f'[[routes]]\npath = "/all/"\ninterface = "static"\nroot = "{directory}/www/list"\nlisting = true\n'
    )


def get(site: Any, path: str, **fields: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in fields.items()}
    return requests.get(site.url + path, headers=names, timeout=20, allow_redirects=False)


def test_files(site: Any) -> None:
    assert (get(site, "/").text, get(site, "/sub/").text) == ("front page", "sub page")
    assert get(site, "/index.html").headers["Content-Type"] == "text/html; charset=utf-8"
    assert get(site, "/sub?x").headers["Location"] == "/sub/?x"
    assert get(site, "/empty").content == b""
    assert get(site, "/near").text == "front page"


def test_a_large_file_on_a_kept_connection(site: Any) -> None:
    session = requests.Session()
    for _ in range(3):
        assert session.get(site.url + "/big.bin", timeout=20).content == BIG
        assert session.get(site.url + "/", timeout=20).text == "front page"


@pytest.mark.parametrize(
    "path",
    ["/none", "/.secret", "/away", "/fifo", "/list/", "/index.html/x", "/..%2fsecret", "/sub%2findex.html", "/%5csecret"],
)
def test_what_is_not_served(site: Any, path: str) -> None:
    response = get(site, path)
    assert response.status_code in (400, 404)
    assert "secret" not in response.text


@pytest.mark.parametrize("target", [b"/../secret", b"/sub/../../secret", b"/%2e%2e/secret", b"/\0"])
def test_paths_that_leave_the_root(site: Any, target: bytes) -> None:
    octets = site.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert octets.startswith(b"HTTP/1.1 400 ")


def test_conditions(site: Any) -> None:
    first = get(site, "/big.bin")
    etag, modified = first.headers["ETag"], first.headers["Last-Modified"]
    assert get(site, "/big.bin", If_None_Match=etag).status_code == 304
    assert get(site, "/big.bin", If_None_Match='"other"').status_code == 200
    assert get(site, "/big.bin", If_Modified_Since=modified).status_code == 304
    assert get(site, "/big.bin", If_Match='"other"').status_code == 412


@pytest.mark.parametrize(
    ("field", "status", "start", "stop"),
    [("bytes=0-9", 206, 0, 10), ("bytes=-5", 206, len(BIG) - 5, len(BIG)), ("bytes=100-", 206, 100, len(BIG)),
     ("bytes=5-2", 200, 0, len(BIG)), ("bytes=0-1,3-4", 200, 0, len(BIG)), ("lines=1-2", 200, 0, len(BIG))],
)  # fmt: skip
def test_ranges(site: Any, field: str, status: int, start: int, stop: int) -> None:
    response = get(site, "/big.bin", Range=field)
    assert (response.status_code, response.content) == (status, BIG[start:stop])
    if status == 206:
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"


def test_a_range_that_is_not_there(site: Any) -> None:
    response = get(site, "/big.bin", Range=f"bytes={len(BIG)}-")
    assert (response.status_code, response.headers["Content-Range"]) == (416, f"bytes */{len(BIG)}")


def test_head_and_other_methods(site: Any) -> None:
    response = requests.head(site.url + "/big.bin", timeout=20)
    assert (response.headers["Content-Length"], response.content) == (str(len(BIG)), b"")
    response = requests.post(site.url + "/", data="x", timeout=20)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


def test_a_listing(site: Any) -> None:
    assert 'href="./a%26b.txt">a&amp;b.txt' in get(site, "/all/").text


def test_a_thousand_pipelined_requests(site: Any) -> None:
    with site.socket() as sock:
        sock.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n" * 999 + b"GET / HTTP/1.0\r\n\r\n")
        octets = b""
        while piece := sock.recv(65536):
            octets += piece
    assert octets.count(b"HTTP/1.1 200 OK") == 1000
    assert octets.endswith(b"front page")


@pytest.fixture
def old_site(tmp_path: Path) -> Path:
    (tmp_path / "cgi-bin").mkdir()
    (tmp_path / "page.txt").write_text("a page")
    script = tmp_path / "cgi-bin" / "hello.sh"
    script.write_text("#!/bin/sh\necho Content-Type: text/plain\necho\necho hello $PATH_INFO\n")
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [["serve", ".", "--listen", "127.0.0.1:0"], ["--cgi", "--bind", "127.0.0.1", "0"],
     ["-b", "127.0.0.1", "--cgi", "-d", ".", "-p", "HTTP/1.1", "0"]],
)  # fmt: skip
def test_the_successor_to_http_server(gateway: Any, old_site: Path, arguments: list[str]) -> None:
    one = gateway("", directory=old_site, arguments=arguments)
    assert requests.get(one.url + "/page.txt", timeout=20).text == "a page"
    assert "page.txt" in requests.get(one.url + "/", timeout=20).text
    assert requests.get(one.url + "/cgi-bin/hello.sh/x", timeout=20).text == "hello /x\n"


def test_without_cgi_nothing_is_run(gateway: Any, old_site: Path) -> None:
    one = gateway("", directory=old_site, arguments=["--bind", "127.0.0.1", "0"])
    assert "echo hello" in requests.get(one.url + "/cgi-bin/hello.sh", timeout=20).text


@pytest.mark.parametrize("name", ["cgi-bin", "htbin"])
def test_a_directory_of_scripts_that_comes_later(gateway: Any, tmp_path: Path, name: str) -> None:
    """Never the source, at no time (SEMANTICS 75)."""
    one = gateway("", directory=tmp_path, arguments=["serve", ".", "--listen", "127.0.0.1:0"])
    assert requests.get(f"{one.url}/{name}/a.cgi", timeout=20).status_code == 404
    (tmp_path / name).mkdir()
    (tmp_path / name / "lib.py").write_text("secret")
    script = tmp_path / name / "a.cgi"
    script.write_text("#!/bin/sh\n# secret\necho Content-Type: text/plain\necho\necho ran\n")
    script.chmod(0o755)
    assert requests.get(f"{one.url}/{name}/a.cgi", timeout=20).text == "ran\n"
    assert requests.get(f"{one.url}/{name}/lib.py", timeout=20).status_code == 403


def test_what_a_route_for_other_methods_runs_is_not_sent(gateway: Any, old_site: Path) -> None:
    (old_site / "cgi-bin" / "lib.py").write_text("secret")
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "static"\nroot = "{old_site}"\n'
        f'[[routes]]\npath = "/cgi-bin/"\ninterface = "cgi"\nroot = "{old_site}/cgi-bin"\nmethods = ["POST"]\n'
    )
    for path in ("/cgi-bin/lib.py", "/cgi-bin/hello.sh"):
        assert requests.get(one.url + path, timeout=20).status_code == 404
    assert requests.post(one.url + "/cgi-bin/hello.sh", timeout=20).text == "hello\n"


def refused(directory: Path, toml: str) -> str:
    (directory / "gateway.toml").write_text(toml)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "gateway.toml"],
        cwd=directory, capture_output=True, text=True, timeout=20, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_said_when_it_cannot_start(tmp_path: Path) -> None:
    route = '[[routes]]\npath = "/"\ninterface = "http"\naddress = "a:1"\n'
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(tmp_path, f'[server]\nlisten = ["127.0.0.1:{port}"]\n{route}')
    assert f"127.0.0.1:{port}: another server listens there" in told
    assert "choose another port" in told
    assert "mkdir -p /no/such" in refused(tmp_path, f'[server]\nlisten = ["unix:/no/such/x.sock"]\n{route}')
    assert "there is no directory" in refused(tmp_path, '[[routes]]\npath = "/"\ninterface = "static"\nroot = "none"\n')
    assert "log.error = '/no/such/log'" in refused(tmp_path, f'[log]\nerror = "/no/such/log"\n{route}')


def test_a_unix_socket_is_served_and_removed(gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    path = tmp_path / "gateway.sock"
    toml = f'[server]\nlisten = ["127.0.0.1:0", "unix:{path}"]\n[[routes]]\npath = "/"\ninterface = "static"\nroot = "www"\n'
    (tmp_path / "two.toml").write_text(toml)
    one = gateway("", directory=tmp_path, arguments=["serve", "two.toml"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /none HTTP/1.0\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 404")
    assert one.stop() == 0
    assert not path.exists()


def test_the_access_log(gateway: Any, directories: Any) -> None:
    directory = directories("log")
    one = gateway(f'[[routes]]\npath = "/"\ninterface = "static"\nroot = "{directory}"\n')
    one.raw(b'GET /a"b HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[1m\r\nConnection: close\r\n\r\n')
    one.raw(b"GET /none HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\nConnection: close\r\n\r\n")
    assert one.stop() == 0
    line = one.access_log()[-1]
    assert line.startswith("127.0.0.1 - - [")
    assert '"GET /none HTTP/1.1" 404 ' in line
    assert line.endswith('"-" "me"')

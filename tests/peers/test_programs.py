"""Perl's FCGI.pm and CGI.pm, flup, a C program with libfcgi: spawned by us, and running already."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT, eventually, needs

PERL_WORKER = """use FCGI;
my $socket = @ARGV ? FCGI::OpenSocket($ARGV[0], 64) : 0;
my $request = FCGI::Request(\\*STDIN, \\*STDOUT, \\*STDERR, \\%ENV, $socket);
while ($request->Accept() >= 0) {
    read(STDIN, my $content, $ENV{CONTENT_LENGTH} || 0);
    print STDERR "perl says hello\\n";
    print "Content-Type: text/plain\\r\\n\\r\\n$ENV{REQUEST_METHOD} $ENV{PATH_INFO} ", length($content);
}
"""
C_WORKER = """#include <fcgi_stdio.h>
#include <stdlib.h>
int main(void) {
    while (FCGI_Accept() >= 0) {
        const char *length = getenv("CONTENT_LENGTH");
        long rest = length ? atol(length) : 0, read_octets = 0;
        while (rest-- > 0 && getchar() != EOF) read_octets++;
        fprintf(stderr, "c says hello\\n");
        printf("Content-Type: text/plain\\r\\n\\r\\n%s %s %ld", getenv("REQUEST_METHOD"), getenv("PATH_INFO"), read_octets);
    }
    return 0;
}
"""
FLUP_WORKER = """import sys
from flup.server.{module} import WSGIServer
def application(environ, start_response):
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%s %s %d" % (environ["REQUEST_METHOD"], environ["PATH_INFO"], len(content))).encode()]
WSGIServer(application, bindAddress={bind}).run()
"""


@pytest.fixture(scope="module")
def directory(directories: Any) -> Path:
    return directories("programs")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def programs(directory: Path) -> dict[str, list[str]]:
    """Commands that serve on descriptor 0, or at the address that is added."""
    perl = needs("perl")
    (directory / "worker.pl").write_text(PERL_WORKER)
    (directory / "worker.c").write_text(C_WORKER)
    subprocess.run([needs("cc"), "-o", directory / "worker-c", directory / "worker.c", "-lfcgi"], check=True)
    (directory / "flup_fcgi.py").write_text(
        FLUP_WORKER.format(module="fcgi", bind="sys.argv[1] if sys.argv[1:] else None")
    )
    (directory / "flup_scgi.py").write_text(FLUP_WORKER.format(module="scgi", bind='("127.0.0.1", int(sys.argv[1]))'))
    return {
        "perl": [perl, str(directory / "worker.pl")],
        "c": [str(directory / "worker-c")],
        "flup": [sys.executable, str(directory / "flup_fcgi.py")],
    }


def toml_list(words: list[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


@pytest.fixture(scope="module")
def spawned(gateway: Any, programs: dict[str, list[str]]) -> Any:
    text = ""
    for name, command in programs.items():
        text += f'[[routes]]\npath = "/{name}"\ninterface = "fastcgi"\napp = "{name}"\n'
        text += f'[apps.{name}]\ncommand = {toml_list(command)}\ninterface = "fastcgi"\nworkers = 2\n'
    scgi = [sys.executable, str(ROOT / "sample_apps" / "flup_scgi.py")]
    text += '[[routes]]\npath = "/scgi"\ninterface = "scgi"\napp = "scgi"\n'
    text += f'[apps.scgi]\ncommand = {toml_list(scgi)}\ninterface = "scgi"\n'
    return gateway(text)


@pytest.fixture(scope="module")
def external(gateway: Any, programs: dict[str, list[str]], directory: Path) -> Iterator[Any]:
    processes, text = [], ""
    for name, command in programs.items():
        path = directory / f"{name}.sock"
        if name == "c":
            command = [needs("spawn-fcgi"), "-n", "-s", str(path), "--", *command]
        else:
            command = [*command, str(path)]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        eventually(path.exists, f"the start of {name}")
        text += f'[[routes]]\npath = "/{name}"\ninterface = "fastcgi"\naddress = "unix:{path}"\n'
    yield gateway(text)
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["perl", "c", "flup"])
@pytest.mark.parametrize("how", ["spawned", "external"])
def test_fastcgi_programs(request: pytest.FixtureRequest, how: str, name: str) -> None:
    one = request.getfixturevalue(how)
    session = requests.Session()
    for size in (0, 5, 100_000):
        response = session.post(f"{one.url}/{name}/a%20b", data=b"x" * size, timeout=20)
        assert (response.status_code, response.text) == (200, f"POST /a b {size}")
    for _ in range(20):
        assert session.get(f"{one.url}/{name}/again", timeout=20).text == "GET /again 0"
    if name != "flup":
        one.wait_for_log(f"{name} says hello")


def test_flup_scgi_on_descriptor_0(spawned: Any) -> None:
    eventually(lambda: requests.get(f"{spawned.url}/scgi/", timeout=20).status_code == 200)


@pytest.mark.parametrize("preconnect", [0, 4])
def test_flup_scgi_at_an_address(preconnect: int, gateway: Any, programs: dict[str, list[str]], directory: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, directory / "flup_scgi.py", str(port)], stderr=subprocess.DEVNULL)
    try:
        one = gateway(
            f'[[routes]]\npath = "/x"\ninterface = "scgi"\naddress = "127.0.0.1:{port}"\npreconnect = {preconnect}\n'
        )
        eventually(lambda: requests.get(f"{one.url}/x/", timeout=20).status_code == 200)
        for size in (0, 5, 100_000) * 3:
            response = requests.post(f"{one.url}/x/y", data=b"x" * size, timeout=20)
            assert response.text == f"POST /y {size}"
    finally:
        process.kill()
        process.wait()


def test_cgi_pm(gateway: Any, directory: Path) -> None:
    perl = needs("perl")
    script = directory / "form.pl"
    script.write_text(
        f"#!{perl}\nuse CGI; my $q = CGI->new; my $f = $q->upload('file'); my $n = 0; "
        "while (read($f, my $b, 4096)) { $n += length $b }\nprint $q->header('text/plain'), $q->param('name'), \" $n\";\n"
    )
    script.chmod(0o755)
    one = gateway(f'[[routes]]\npath = "/form"\ninterface = "cgi"\nscript = "{script}"\n')
    response = requests.post(f"{one.url}/form", data={"name": "Ada"}, files={"file": b"x" * 50_000}, timeout=20)
    assert response.text == "Ada 50000"

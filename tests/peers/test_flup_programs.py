"""Programs written for flup: with flup itself, and with `gateway.` before its name, the answers are the same."""

from __future__ import annotations

import ast
import functools
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import sample_apps
from tests.conftest import ROOT, eventually, needs

PROGRAM = """import hashlib, sys
{imports}

def application(environ, start_response):
    path = environ["PATH_INFO"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    content = environ["wsgi.input"].read(length) if length else b""
    if path == "/raises":
        raise ValueError("on purpose")
    if path == "/raises-in-iteration":
        return raising(start_response)
    if path == "/replaces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ValueError("on purpose")
        except ValueError:
            start_response("503 Later", [("Content-Type", "text/plain"), ("Retry-After", "7")], sys.exc_info())
            return [b"later"]
    if path == "/text":
        start_response(b"200 OK", [(b"Content-Type", b"text/plain"), ("X-Text", "yes")])
        return ["text, ", "not octets: \\xe9"]
    if path == "/generator":
        return generator(start_response)
    if path == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        write("text ")
        return [b"and returned"]
    if path == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (bytes([number % 251]) * 70_000 for number in range(40))
    if path == "/nothing":
        start_response("204 No Content", [])
        return []
    if path == "/cookies":
        start_response("302 Found", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Location", "/elsewhere")])
        return [b""]
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = {{name: environ[name] for name in environ if type(environ[name]) in (str, bool, tuple) and name not in UNEQUAL}}
    told["content"] = hashlib.sha256(content).hexdigest()
    return [repr(sorted(told.items())).encode()]

def generator(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(5):
        yield b"%d," % number
        yield b""

def raising(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise ValueError("on purpose")
    yield b""

# what the web server chooses anew for each request, what flup does not know, and what only we know
UNEQUAL = {{"REMOTE_PORT", "EXCHANGE_ID", "FCGI_ROLE", "wsgi.input_terminated"}}

if __name__ == "__main__":
    ret = {serve}
    sys.exit(42 if ret else 0)
"""
FCGI = "from flup.server.fcgi import WSGIServer"
FORK = "from flup.server.fcgi_fork import WSGIServer"
SINGLE = "from flup.server.fcgi_single import WSGIServer"
SCGI = "from flup.server.scgi import WSGIServer"
SCGI_FORK = "from flup.server.scgi_fork import WSGIServer"
QUIET = "import logging\nlogging.disable(logging.CRITICAL)\n"
PROGRAMS = {
    # name: (interface, imports, the line that serves)
    "thread": ("fastcgi", FCGI, "WSGIServer(application, bindAddress=ADDRESS).run()"),
    "module": ("fastcgi", "import flup.server.fcgi as flups", "flups.WSGIServer(application, bindAddress=ADDRESS).run()"),
    "positional": ("fastcgi", FCGI, "WSGIServer(application, {'a.b': 'c', 'X': 'y'}, True, True, ADDRESS, 0).run()"),
    "environ": ("fastcgi", FCGI, "WSGIServer(application, environ={'HTTPS': 'on', 'APP': '1'}, bindAddress=ADDRESS).run()"),
    "one-thread": ("fastcgi", FCGI, "WSGIServer(application, multithreaded=False, bindAddress=ADDRESS).run()"),
    "multiplexed": ("fastcgi", FCGI, "WSGIServer(application, multiplexed=True, bindAddress=ADDRESS, maxThreads=4).run()"),
    "spare": ("fastcgi", FCGI, "WSGIServer(application, bindAddress=ADDRESS, minSpare=2, maxSpare=9, maxThreads=30).run()"),
    "fork": ("fastcgi", FORK, "WSGIServer(application, bindAddress=ADDRESS, umask=0o111).run()"),
    "fork-few": ("fastcgi", FORK, "WSGIServer(application, bindAddress=ADDRESS, maxSpare=2, maxChildren=3).run()"),
    "single": ("fastcgi", SINGLE, "WSGIServer(application, bindAddress=ADDRESS).run()"),
    "scgi": ("scgi", QUIET + SCGI, "WSGIServer(application, bindAddress=ADDRESS).run()"),
    "scgi-given": (
        "scgi", QUIET + SCGI, "WSGIServer(application, environ={'APP': '1'}, bindAddress=ADDRESS, "
        "allowedServers=['127.0.0.1'], loggingLevel=logging.ERROR, multithreaded=False).run()",
    ),
    "scgi-fork": ("scgi", QUIET + SCGI_FORK, "WSGIServer(application, bindAddress=ADDRESS).run()"),
}  # fmt: skip
BROKEN_IN_FLUP = {"/raises", "/raises-in-iteration"}
"""Pages whose content is the server's and not the program's."""
REQUESTS: list[tuple[str, str, bytes]] = [
    ("GET", "/app/x", b""),
    ("GET", "/app", b""),
    ("GET", "/app/", b""),
    ("GET", "/app/a%20b/%C3%A9?q=1&r=%20", b""),
    ("POST", "/app/form?x", b"a=1&b=2"),
    ("PUT", "/app/large-content", b"0123456789" * 30_000),
    ("HEAD", "/app/x", b""),
    ("DELETE", "/app/x", b""),
    *[("GET", f"/app/{page}", b"") for page in (
        "raises", "raises-in-iteration", "replaces", "text", "generator", "write", "large", "nothing", "cookies",
    )],
]  # fmt: skip


def ours(text: str) -> str:
    """What the issue asks for: nothing but the import line changes."""
    changed = re.sub(r"^(from|import) flup\b", r"\1 gateway.flup", text, flags=re.MULTILINE)
    assert changed != text
    return changed


def unchanged(text: str) -> str:
    return text


def answers(url: str) -> list[tuple[Any, ...]]:
    """What comes back, without what the server in front of the program says of itself."""
    found = []
    with requests.Session() as session:
        for method, path, content in REQUESTS:
            response = session.request(method, url + path, data=content or None, timeout=20, allow_redirects=False)
            # whether the length is known beforehand is not the program's to say
            not_its_own = ("Date", "Server", "Connection", "Content-Length", "Transfer-Encoding")
            fields = {name: value for name, value in response.headers.items() if name not in not_its_own}
            told: Any = response.content
            if path.removeprefix("/app") in BROKEN_IN_FLUP:
                fields, told = {}, b""
            elif told.startswith(b"[("):
                told = dict(ast.literal_eval(told.decode()))
            found.append((method, path, response.status_code, response.reason, fields, told))
    return found


@contextmanager
def running(command: list[str], is_up: Callable[[], bool], *, heeds_sigterm: bool = True) -> Iterator[None]:
    """The program, until SIGTERM ends it as it should; flup's forking servers mostly do not heed it."""
    process = subprocess.Popen(
        command, cwd=Path(command[-1]).parent, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        eventually(lambda: is_up() or process.poll() is not None, "the start of the program")
        assert process.poll() is None, "it has ended"
        yield
        if heeds_sigterm:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        eventually(lambda: not is_up(), "the end of its children")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def connects(family: int, address: Any) -> bool:
    with socket.socket(family) as client:
        return not client.connect_ex(address)


@pytest.fixture(scope="module")
def directory(directories: Any) -> Path:
    return directories("flup")  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=["unix", "tcp"])
def reached(request: pytest.FixtureRequest, gateway: Any, directory: Path) -> dict[str, tuple[Any, Any]]:
    """By interface: a gateway, and the address at which it expects the program."""
    found = {}
    for interface in ("fastcgi", "scgi"):
        address: Any = str(directory / f"{interface}.sock") if request.param == "unix" else ("127.0.0.1", free_port())
        where = f"unix:{address}" if request.param == "unix" else f"127.0.0.1:{address[1]}"
        found[interface] = gateway(f'[[routes]]\npath = "/app"\ninterface = "{interface}"\naddress = "{where}"\n'), address
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_at_an_address(name: str, reached: Any, directory: Path) -> None:
    interface, imports, serve = PROGRAMS[name]
    one, address = reached[interface]
    text = PROGRAM.format(imports=imports, serve=serve.replace("ADDRESS", repr(address)))
    found = []
    for number, change in enumerate((unchanged, ours)):
        program = directory / f"{name}_{number}.py"
        program.write_text(change(text))
        Path(address if isinstance(address, str) else "/nonexistent").unlink(missing_ok=True)
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        is_up = functools.partial(connects, family, address)
        with running([sys.executable, str(program)], is_up, heeds_sigterm=number == 1):
            found.append(answers(one.url))
    for before, after in zip(*found):
        assert after == before
    assert {status for _, _, status, *_ in found[1]} == {200, 204, 302, 500, 503}


def spawned(gateway: Any, command: list[str], interface: str) -> Any:
    words = ", ".join(f'"{word}"' for word in command)
    return gateway(
        f'[[routes]]\npath = "/app"\ninterface = "{interface}"\napp = "program"\n'
        f'[apps.program]\ncommand = [{words}]\ninterface = "{interface}"\n'
    )


def without_port(found: list[tuple[Any, ...]], one: Any) -> list[tuple[Any, ...]]:
    told = repr(found).replace(str(one.address[1]), "PORT")
    return ast.literal_eval(told)  # type: ignore[no-any-return]


@pytest.mark.parametrize("imports", [FCGI, FORK, SINGLE], ids=["thread", "fork", "single"])
def test_a_program_on_descriptor_0(imports: str, gateway: Any, directories: Any) -> None:
    directory = directories("descriptor")
    text = PROGRAM.format(imports=imports, serve="WSGIServer(application).run()")
    found = []
    for number, change in enumerate((unchanged, ours)):
        program = directory / f"program_{number}.py"
        program.write_text(change(text))
        # the gateway gives its applications an environment of their own, without what makes this tree importable
        one = spawned(gateway, ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(program)], "fastcgi")
        found.append(without_port(answers(one.url), one))
    assert found[1] == found[0]


def test_a_program_under_spawn_fcgi(gateway: Any, directories: Any) -> None:
    directory = directories("spawn")
    text = PROGRAM.format(imports=FCGI, serve="WSGIServer(application).run()")
    path = directory / "socket"
    one = gateway(f'[[routes]]\npath = "/app"\ninterface = "fastcgi"\naddress = "unix:{path}"\n')
    found = []
    for number, change in enumerate((unchanged, ours)):
        program = directory / f"program_{number}.py"
        program.write_text(change(text))
        path.unlink(missing_ok=True)
        command = [needs("spawn-fcgi"), "-n", "-s", str(path), "--", sys.executable, str(program)]
        with running(command, lambda: connects(socket.AF_UNIX, str(path)), heeds_sigterm=number == 1):
            found.append(answers(one.url))
    assert found[1] == found[0]


@pytest.mark.parametrize(
    ("sample", "interface"), [("flup_fastcgi.py", "fastcgi"), ("flup_scgi.py", "scgi")], ids=["fastcgi", "scgi"]
)
def test_the_samples(sample: str, interface: str, gateway: Any, directories: Any) -> None:
    """One of them overrides how the server finds its socket."""
    directory = directories("samples")
    samples = Path(sample_apps.__path__[0])
    (directory / "application.py").write_text((samples / "application.py").read_text())
    found = []
    for change in (unchanged, ours):
        (directory / sample).write_text(change((samples / sample).read_text()))
        command = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(directory / sample)]
        one = spawned(gateway, command, interface)
        told = []
        for path in ("", "/", "/environment", "/nowhere", "/stream"):
            response = requests.get(one.url + "/app" + path, timeout=20)
            text = re.sub(r"process \d+|<tr><td>(REMOTE_PORT|EXCHANGE_ID|FCGI_ROLE)<td>.*\n", "", response.text)
            text = text.replace(str(one.address[1]), "PORT")
            told.append((path, response.status_code, response.headers["Content-Type"], text))
        echoed = requests.post(one.url + "/app/echo", data=b"x" * 200_000, timeout=20).json()
        found.append((told, echoed))
    assert found[1] == found[0]
    assert found[1][1]["bytes"] == 200_000


def test_a_program_as_cgi(gateway: Any, directories: Any) -> None:
    """flup's own way to answer a CGI request writes octets to a text stream, and fails: ours is compared with FastCGI."""
    directory = directories("cgi")
    program = directory / "program.py"
    program.write_text(f"#!{sys.executable}\n" + ours(PROGRAM.format(imports=FCGI, serve="WSGIServer(application).run()")))
    program.chmod(0o755)
    as_cgi = gateway(
        f'[[routes]]\npath = "/app"\ninterface = "cgi"\nscript = "{program}"\nenvironment = {{ PYTHONPATH = "{ROOT}" }}\n'
    )
    as_fastcgi = spawned(gateway, ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(program)], "fastcgi")
    found = [without_port(answers(one.url), one) for one in (as_cgi, as_fastcgi)]
    for one, other in zip(*found):
        told, expected = one[-1], other[-1]
        if isinstance(told, dict):
            flags = ("wsgi.run_once", "wsgi.multiprocess", "wsgi.multithread")
            assert [told.pop(name) for name in flags] == [True, True, False]
            assert [expected.pop(name) for name in flags] == [False, False, True]
            for name in ("SCRIPT_FILENAME", "PATH_TRANSLATED", "PYTHONPATH", "DOCUMENT_ROOT"):  # what only a script has
                told.pop(name, None)
                expected.pop(name, None)
        assert one == other


def test_a_wrapper_script_starts_the_program_again(gateway: Any, directories: Any) -> None:
    """flup's documentation has one: exit code 42 asks for it, which is SIGHUP."""
    directory = directories("again")
    program = directory / "program.py"
    path = directory / "socket"
    program.write_text(ours(PROGRAM.format(imports=FCGI, serve=f"WSGIServer(application, bindAddress={str(path)!r}).run()")))
    one = gateway(f'[[routes]]\npath = "/app"\ninterface = "fastcgi"\naddress = "unix:{path}"\n')
    for _ in range(2):  # its file is still there at the second time
        process = subprocess.Popen([sys.executable, program], env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)
        try:
            eventually(lambda: requests.get(f"{one.url}/app/x", timeout=20).status_code == 200, "the start of the program")
            process.send_signal(signal.SIGHUP)
            assert process.wait(30) == 42
        finally:
            process.kill()
            process.wait()
        assert path.exists()

"""The same application behind all four interfaces of one gateway, once for each concurrency model and tokeniser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

INTERFACES = ("cgi", "fastcgi", "scgi", "http")
WORKER = Path(__file__).with_name("worker.py")


class Served:
    """A gateway with the routes /c, /f, /s, /h, and where its worker's sockets are."""

    def __init__(self, gateway, directory: Path) -> None:  # type: ignore[no-untyped-def]
        self.gateway = gateway
        self.directory = directory
        self.url = gateway.url

    def path(self, interface: str, path: str) -> str:
        return f"/{interface[0]}{path}"

    def get(self, interface: str, path: str, **arguments: object):  # type: ignore[no-untyped-def]
        import requests

        return requests.get(self.url + self.path(interface, path), timeout=20, **arguments)  # type: ignore[arg-type]


class Workers:
    """worker.py over FastCGI, SCGI and HTTP on unix sockets, and as a CGI script."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = directory / "worker.cgi"
        self.script.write_text(f"#!{sys.executable}\n" + WORKER.read_text().replace("__file__", repr(str(WORKER))))
        self.script.chmod(0o755)
        self.processes = [
            subprocess.Popen([sys.executable, WORKER, interface, directory / f"{interface}.sock"])
            for interface in INTERFACES[1:]
        ]

    def routes(self, extra: str = "", only: tuple[str, ...] = INTERFACES) -> str:
        """TOML; `extra` goes into each route."""
        text = ""
        for interface in only:
            target = (
                f'script = "{self.script}"' if interface == "cgi"
                else f'address = "unix:{self.directory}/{interface}.sock"'
            )  # fmt: skip
            text += f'[[routes]]\npath = "/{interface[0]}"\ninterface = "{interface}"\n{target}\n{extra}\n'
        return text

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def workers(directories: Callable[[str], Path]) -> Iterator[Workers]:
    made = Workers(directories("worker"))
    for interface in INTERFACES[1:]:
        while not (made.directory / f"{interface}.sock").exists():
            assert all(process.poll() is None for process in made.processes)
    yield made
    made.stop()


MODELS = {
    "single": 'concurrency = "single"',
    "fork": 'concurrency = "fork"',
    "thread": 'concurrency = "thread"',
    "prefork": 'concurrency = "prefork"\nprocesses = 2',
    "threadpool": 'concurrency = "threadpool"\nprocesses = 1\nthreads = 4',
    "event": 'concurrency = "event"\nprocesses = 2',
    "event-1": 'concurrency = "event"\nprocesses = 1',
}
"""`event` has two shapes: several processes, or the one that was started."""
CHOSEN = os.environ.get("MODELS", " ".join(MODELS)).split()
"""Those that tests are run with."""


@pytest.fixture(scope="module", params=["httptools", "h11"])
def tokeniser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=CHOSEN)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(model: str, tokeniser: str, gateway, workers: Workers) -> Served:  # type: ignore[no-untyped-def]
    one = gateway(workers.routes(), server=MODELS[model], tokeniser=tokeniser)
    return Served(one, workers.directory)


@pytest.fixture(params=INTERFACES)
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)

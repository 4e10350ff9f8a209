"""The modules of flup's successor: their names, their arguments, and what becomes of these."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import flup.server
import pytest

from gateway.flup import fcgi, fcgi_fork, fcgi_single, paste_factory, scgi, scgi_fork
from gateway.flup.serving import NoDefault, serve
from gateway.flup.threadedserver import ThreadedServer
from gateway.models import Hosting
from tests.conftest import ROOT

SERVERS = {"fcgi": fcgi, "fcgi_fork": fcgi_fork, "fcgi_single": fcgi_single, "scgi": scgi, "scgi_fork": scgi_fork}
MODULES = [module.name for module in pkgutil.iter_modules(flup.server.__path__)]


def application(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError("nobody asks it here")


def parameters(function: Any) -> list[tuple[Any, ...]]:
    """Names, defaults and kinds, in order."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        told = "NoDefault" if getattr(default, "__name__", "") == "NoDefault" else default
        found.append((parameter.name, told, parameter.kind))
    return found


# flup's own: BaseSCGIServer and the shapes are made by programs that put a server of their own together
@pytest.mark.parametrize(
    ("module", "name"),
    [*((module, "WSGIServer") for module in SERVERS), ("cgi", "WSGIServer"), ("fcgi_base", "BaseFCGIServer"),
     ("scgi_base", "BaseSCGIServer"), ("preforkserver", "PreforkServer"), ("threadpool", "ThreadPool")],
)  # fmt: skip
def test_arguments_are_those_of_flup(module: str, name: str) -> None:
    theirs = getattr(importlib.import_module(f"flup.server.{module}"), name)
    ours = getattr(importlib.import_module(f"gateway.flup.server.{module}"), name)
    assert parameters(ours.__init__) == parameters(theirs.__init__)


@pytest.mark.parametrize("module", MODULES)
def test_there_is_every_module_or_a_word_why_not(module: str) -> None:
    name = f"gateway.flup.server.{module}"
    if module.startswith("ajp"):
        with pytest.raises(ImportError, match=r"gateway\.flup\.fcgi"):
            importlib.import_module(name)
        return
    theirs = importlib.import_module(f"flup.server.{module}")
    ours = importlib.import_module(name)
    public = [one for one in getattr(theirs, "__all__", ()) if one not in ("run_ajp_thread", "run_ajp_fork")]
    assert all(hasattr(ours, one) for one in public)
    if module in SERVERS:
        assert ours.WSGIServer is SERVERS[module].WSGIServer  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gateway.flup.ajp", "gateway.flup.ajp_fork", "gateway.flup.client.fcgi_app"])
def test_what_is_not_served_says_what_to_do(name: str) -> None:
    with pytest.raises(ImportError, match=r"gateway\.flup|gateway\.client"):
        importlib.import_module(name)


def test_the_constant_for_what_was_not_given() -> None:
    assert importlib.import_module("gateway.flup.server").NoDefault is NoDefault


def test_install_makes_it_flup_for_what_imports_flup_itself() -> None:
    program = (
        "import gateway.flup\ngateway.flup.install()\n"
        "import flup.server.fcgi as flups\nfrom flup.server.scgi_fork import WSGIServer\nimport gateway.flup.fcgi\n"
        "assert flups.WSGIServer is gateway.flup.fcgi.WSGIServer\nprint(WSGIServer.__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=True
    )
    assert done.stdout == "gateway.flup.scgi_fork\n"


def test_the_guide_names_what_there_is() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "flup.md").read_text()
    names = set(re.findall(r"gateway\.flup(?:\.[a-z_]+)*", text))
    assert {f"gateway.flup.{name}" for name in SERVERS} <= names
    for name in names - {"gateway.flup.install", "gateway.flup.ajp"}:
        importlib.import_module(name)
    assert set(parameters_of_servers()) <= set(re.findall(r"`([A-Za-z]+)", text))


def parameters_of_servers() -> list[str]:
    spare = ["minSpare", "maxSpare", "maxThreads", "maxChildren", "maxRequests"]
    servers = [inspect.signature(module.WSGIServer.__init__) for module in SERVERS.values()]  # type: ignore[attr-defined]
    return [*spare, *(name for one in servers for name in one.parameters if name not in ("self", "kw", "application"))]


# ---------------------------------------------------------------------- shapes


def hosting(module: str, *arguments: Any, **given: Any) -> Hosting:
    server = SERVERS[module].WSGIServer(application, *arguments, **given)  # type: ignore[attr-defined]
    return server.hosting()  # type: ignore[no-any-return]


@pytest.mark.parametrize("module", ["fcgi", "scgi"])
def test_threads(module: str) -> None:
    usual = hosting(module)
    assert (usual.concurrency, usual.children.max, usual.children.queue) == ("thread", 200, 128)
    assert hosting(module, minSpare=2, maxSpare=3, maxThreads=7).children.max == 7
    assert hosting(module, minSpare=9, maxThreads=7).children.max == 9
    one = hosting(module, multithreaded=False, maxThreads=7)
    assert (one.concurrency, one.processes, one.threads) == ("event", 1, 1)


def test_multiplexed_needs_a_loop() -> None:
    usual = hosting("fcgi", multiplexed=True)
    assert (usual.concurrency, usual.processes, usual.threads) == ("event", 1, 64)
    assert hosting("fcgi", multiplexed=True, maxThreads=7).threads == 7
    assert hosting("fcgi_fork", multiplexed=True).concurrency == "prefork"
    assert hosting("fcgi_single", multiplexed=True).concurrency == "single"


@pytest.mark.parametrize("module", ["fcgi_fork", "scgi_fork"])
def test_processes(module: str) -> None:
    usual = hosting(module)
    children = usual.children
    assert (usual.concurrency, usual.threads) == ("prefork", 1)
    assert (children.max, children.min_spare, children.max_spare, children.requests) == (50, 1, 5, 0)
    given = hosting(module, minSpare=2, maxSpare=4, maxChildren=3, maxRequests=100, multithreaded=True).children
    assert (given.max, given.min_spare, given.max_spare, given.requests) == (4, 2, 4, 100)


def test_one_at_a_time() -> None:
    assert hosting("fcgi_single").concurrency == "single"
    assert hosting("fcgi_single", minSpare=3).concurrency == "single"


@pytest.mark.parametrize("module", ["fcgi_fork", "scgi_fork"])
@pytest.mark.parametrize("given", [{"minSpare": 0}, {"minSpare": 6}, {"minSpare": 3, "maxSpare": 2}])
def test_figures_that_contradict_each_other(module: str, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Spare"):
        hosting(module, **given)


@pytest.mark.parametrize("module", SERVERS)
def test_arguments_that_nobody_knows(module: str) -> None:
    if module == "fcgi_single":  # flup's takes them, too
        return
    with pytest.raises(TypeError, match="maxThread"):
        hosting(module, maxThread=3)


@pytest.mark.parametrize("name", ["handler", "request_class", "cgirequest_class", "requestClass", "_connectionClass"])
def test_what_would_never_be_asked_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{name} would never be used"):
        type("Mine", (fcgi.WSGIServer,), {name: None})


def test_a_shape_alone_serves_nothing() -> None:
    with pytest.raises(TypeError, match="neither a BaseFCGIServer nor a BaseSCGIServer"):
        serve(ThreadedServer(), None, Hosting("single"))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- PasteDeploy


class Recorded:
    """In place of a server."""

    def __init__(self, app: Any, **given: Any) -> None:
        self.given = given
        recorded.append(given)

    def run(self) -> bool:
        return False


recorded: list[dict[str, Any]] = []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    recorded.clear()
    for module in (fcgi, fcgi_fork, scgi, scgi_fork):
        monkeypatch.setattr(module, "WSGIServer", Recorded)

    def run(name: str, shared: dict[str, str], **settings: str) -> dict[str, Any]:
        getattr(paste_factory, name)(application, shared, **settings)
        return recorded.pop()

    return run


def test_paste_fastcgi(run: Any) -> None:
    assert run("run_fcgi_thread", {}) == {"bindAddress": None, "umask": None, "multiplexed": False, "debug": False}
    given = run("run_fcgi_thread", {"debug": "true"}, host="127.0.0.1", port="9000", maxThreads="5", multiplexed="yes")
    expected = {"bindAddress": ("127.0.0.1", 9000), "umask": None, "multiplexed": True, "debug": True, "maxThreads": 5}
    assert given == expected
    given = run("run_fcgi_fork", {"debug": "true"}, socket="/s", umask="7", debug="off", maxChildren="3", maxRequests="4")
    assert given == {
        "bindAddress": "/s", "umask": 7, "multiplexed": False, "debug": False, "maxChildren": 3, "maxRequests": 4,
    }  # fmt: skip


def test_paste_scgi(run: Any) -> None:
    assert run("run_scgi_thread", {}) == {
        "bindAddress": ("localhost", 4000), "allowedServers": ["127.0.0.1"], "scriptName": NoDefault, "debug": False,
    }  # fmt: skip
    given = run("run_scgi_fork", {}, host="::1", port="1", allowedServers="10.0.0.1 10.0.0.2", scriptName="/x", minSpare="2")
    assert given == {
        "bindAddress": ("::1", 1), "allowedServers": ["10.0.0.1", "10.0.0.2"], "scriptName": "/x", "debug": False,
        "minSpare": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"socket": "/s", "port": "1"}, {"host": "a"}, {"debug": "perhaps"}, {"maxThreads": "many"}]
)
def test_paste_settings_that_cannot_be_meant(run: Any, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        run("run_fcgi_thread", {}, **settings)


def test_paste_settings_that_nobody_knows(run: Any) -> None:
    with pytest.raises(TypeError, match="maxThread: no such setting"):
        run("run_fcgi_thread", {}, maxThread="3")

"""The command line as a whole: commands, exit codes, and the flags of `python -m http.server`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__, cli
from gateway.cli import _from_http_server, main

ROOT = Path(cli.__path__[0]).parent.parent


def gateway(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, cwd=cwd, timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_help_names_every_command() -> None:
    done = gateway("--help")
    assert done.returncode == 0
    for name in cli.COMMANDS:
        assert f"\n    {name} " in done.stdout


def test_version() -> None:
    told = gateway("--version").stdout
    assert told.startswith(f"gateway-suite {__version__} (")
    assert "compiled, Python 3." in told


def test_help_loads_no_event_loop_and_no_tables() -> None:
    code = "import sys, gateway.cli\ntry: gateway.cli.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)
    for name in ("uvloop", "asyncio", "rich.table"):
        assert f"'{name}'" not in done.stdout


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path: Path, command: str) -> None:
    (tmp_path / "gateway.toml").write_text("[sever]\n")
    done = gateway(command, "gateway.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gateway.toml:1: sever: no such table; did you mean 'server'?\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = gateway("check", "none.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "gateway init" in done.stderr


@pytest.mark.parametrize("arguments", ["serve none/", "serve none", "--cgi -d none", "explain / none"])
def test_a_directory_that_is_not_there(tmp_path: Path, arguments: str) -> None:
    """Who names a directory is not told how to write a config."""
    done = gateway(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("none")
    assert done.stderr.endswith(": cannot be served: No such file or directory\n")


def test_no_cgi_with_a_config_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "g.toml").touch()
    done = gateway("serve", "g.toml", "--no-cgi", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "gateway: --no-cgi: is for a directory; what a config file runs is said in it\n"


@pytest.mark.parametrize("arguments", ["99999", "--cgi 123456", "demo --port 80000", "demo --port x"])
def test_a_port_that_is_none(arguments: str) -> None:
    done = gateway(*arguments.split())
    assert done.returncode == 2
    assert f"{arguments.split()[-1]} is no port: 0 to 65535" in done.stderr


def test_an_address_that_is_none(tmp_path: Path) -> None:
    done = gateway("serve", ".", "--listen", "127.0.0.1:99999", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gateway: --listen = '127.0.0.1:99999': is not allowed\n")


def test_no_command_is_told_what_serves() -> None:
    done = gateway()
    assert done.returncode == 2
    assert "`gateway serve`" in done.stderr.splitlines()[-1]


def test_help_tells_the_flags_of_http_server() -> None:
    assert "[--cgi] [-b ADDRESS] [-d DIRECTORY] [PORT]" in gateway("-h").stdout


def test_a_misspelt_command_is_told_as_one() -> None:
    done = gateway("serv", "8000")
    assert done.returncode == 2
    assert "'serv'" in done.stderr
    assert "serve" in done.stderr


def test_what_should_not_happen_is_one_line_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(path: str) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("gateway.cli.check.load_config", broken)
    monkeypatch.delenv("GATEWAY_DEBUG", raising=False)
    assert main(["check", "x"]) == 1
    told = capsys.readouterr().err
    assert "RuntimeError: a defect" in told
    assert "GATEWAY_DEBUG=1" in told
    assert "Traceback" not in told
    monkeypatch.setenv("GATEWAY_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a defect"):
        main(["check", "x"])


@pytest.mark.parametrize(
    ("given", "serve"),
    [
        ("--cgi --directory . 8000 --bind 127.0.0.1 --protocol HTTP/1.1", "serve . --listen 127.0.0.1:8000"),
        ("--cgi -d . 8000 -b 127.0.0.1 -p HTTP/1.0", "serve . --listen 127.0.0.1:8000"),
        ("--cgi", "serve . --listen :8000"),
        ("9000", "serve . --listen :9000 --no-cgi"),
        ("-b ::1 -d /srv 80", "serve /srv --listen [::1]:80 --no-cgi"),
    ],
)
def test_the_flags_of_http_server(given: str, serve: str) -> None:
    assert _from_http_server(given.split()) == serve.split()


def test_the_command_line_of_http_server_serves_and_runs_scripts(tmp_path: Path, start: Any) -> None:
    (tmp_path / "cgi-bin").mkdir()
    script = tmp_path / "cgi-bin" / "hello"
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran'\n")
    script.chmod(0o755)
    (tmp_path / "page.txt").write_text("a page")
    flags = ["--cgi", "--directory", str(tmp_path), "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    url = start(flags)
    import requests

    assert requests.get(url + "cgi-bin/hello", timeout=20).text == "ran"
    assert requests.get(url + "page.txt", timeout=20).text == "a page"
    assert requests.get(url + "cgi-bin/", timeout=20).status_code == 403


@pytest.fixture
def start() -> Any:
    processes: list[subprocess.Popen[str]] = []

    def run(arguments: list[str]) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        processes.append(process)
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told.startswith("serving http://"), told
        return told.split()[1]

    yield run
    for process in processes:
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0

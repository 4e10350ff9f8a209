"""`gateway demo`: every link of its page leads somewhere, over the interface that it names."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import sample_apps
from gateway.cli import demo

PAGE = (Path(sample_apps.__path__[0]) / "public" / "index.html").read_text()
ROOT = Path(sample_apps.__path__[0]).parent


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "gateway", "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.match(r"  The demo is at  (http://127\.0\.0\.1:[1-9]\d*/) ", line):
                    break
            else:
                pytest.fail("the demo ended before it told where it serves")
            yield found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 0


def test_page_shows_what_the_demo_is(url: str) -> None:
    response = requests.get(url, timeout=20)
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.text == PAGE


@pytest.mark.parametrize("link", sorted(set(re.findall(r'(?:href|src)="([^"]+)"', PAGE))))
def test_link_of_the_page_leads_somewhere(url: str, link: str) -> None:
    if left_out(url, link):
        pytest.skip("this machine lacks what it needs, and the page says so")
    assert requests.get(url + link, timeout=20).status_code == 200


def left_out(url: str, link: str) -> bool:
    found = re.search(r"const missing = (\{.*\});", requests.get(f"{url}demo.js", timeout=20).text)
    assert found is not None
    needed = re.search(r'data-needs="([^"]+)" href="' + re.escape(link) + '"', PAGE)
    return needed is not None and needed[1] in json.loads(found[1])


@pytest.mark.parametrize(
    ("path", "interface"), [("cgi/", "CGI"), ("fastcgi/", "FastCGI"), ("scgi/", "SCGI"), ("http/", "HTTP")]
)
def test_application_is_reached_over_the_interface_named(url: str, path: str, interface: str) -> None:
    assert requests.get(url + path, timeout=20).text.endswith(f"reached over {interface}.\n")


@pytest.mark.parametrize("path", ["cgi/echo", "fastcgi/echo", "scgi/echo", "http/echo"])
def test_application_gets_the_whole_content_over_each_interface(url: str, path: str) -> None:
    told = requests.post(url + path, data=b"x" * 300_000, timeout=20).json()
    assert (told["bytes"], told["complete"]) == (300_000, True)


@pytest.mark.parametrize("path", ["cgi-bin/counter.sh", "fastcgi/stream", "scgi/stream", "http/stream"])
def test_lines_arrive_as_they_are_written(url: str, path: str) -> None:
    with requests.get(url + path, stream=True, timeout=20) as response:
        pieces = list(response.iter_content(None))
    assert b"".join(pieces).count(b"\n") == 10
    assert len(pieces) > 5  # a server that waits for the end hands over one


def test_upload_form_shows_size_and_digest(url: str) -> None:
    files = {"file": ("a.txt", b"hello")}
    page = requests.post(f"{url}cgi-bin/upload.py", files=files, data={"remark": "r"}, timeout=20).text
    assert "<td>a.txt<td>5" in page


@pytest.mark.parametrize("missing", [{}, {"flup": "x"}, {"perl-fcgi": "x"}, {"flup": "x", "perl-fcgi": "x"}])
def test_config_leaves_out_what_is_missing(missing: dict[str, str]) -> None:
    config: dict[str, Any] = tomllib.loads(demo.demo_config(8000, 9000, missing))
    used = {route["app"] for route in config["routes"] if "app" in route}
    assert used == set(config.get("apps", {}))
    assert ("flup-scgi" in used) == ("flup" not in missing)
    assert ("perl" in used) == ("perl-fcgi" not in missing)


SITECUSTOMIZE = """
import os, signal, sys
if sys.orig_argv[-1].endswith("http_server.py"):
    open(os.environ["TOLD"], "w").write(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("during", ["prepare", "http_server"])
def test_sigterm_before_it_serves_leaves_nothing_behind(tmp_path: Path, during: str) -> None:
    """The signal comes from what is started at that moment."""
    for name in ("bin", "python", "temporary"):
        (tmp_path / name).mkdir()
    if during == "prepare":
        compiler = tmp_path / "bin" / "cc"
        compiler.write_text("#!/bin/sh\nkill -TERM $PPID\n")
        compiler.chmod(0o755)
    else:
        (tmp_path / "python" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "TOLD": str(tmp_path / "pid"),
                   "PYTHONPATH": f"{tmp_path}/python:{ROOT}", "TMPDIR": str(tmp_path / "temporary")}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--port", "0"], env=environment, capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, b"", b"")
    assert list((tmp_path / "temporary").iterdir()) == []
    if during == "http_server":
        assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "demo", "--port", str(port)], cwd=ROOT, capture_output=True, text=True,
            timeout=30,
        )  # fmt: skip
    assert done.returncode == 2
    assert str(port) in done.stderr


def test_written_demo_is_a_config_with_its_samples(tmp_path: Path) -> None:
    assert demo.write(tmp_path / "new", 8000) == 0
    config = tomllib.loads((tmp_path / "new" / "gateway.toml").read_text())
    for route in config["routes"]:
        for key in ("root", "script"):
            if key in route:
                assert (tmp_path / "new" / route[key]).exists()


def test_written_demo_never_overwrites_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text("mine")
    assert demo.write(tmp_path, 8000) == 2
    assert (tmp_path / "gateway.toml").read_text() == "mine"
    assert "exists already" in capsys.readouterr().err

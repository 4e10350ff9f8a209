"""`gateway explain`: which route, why, where in it, and what a worker would get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import main

CONFIG = """
[[routes]]
path = "/cgi/"
interface = "cgi"
root = "scripts"
environment = { COLOUR = "blue" }
[[routes]]
path = "*.php"
interface = "fastcgi"
address = "127.0.0.1:9000"
root = "public"
timeouts = { total = "5s", connect = "0" }
[[routes]]
path = "/api"
hosts = ["api.example"]
interface = "http"
address = "127.0.0.1:9001"
[[routes]]
path = "/form"
methods = ["POST"]
interface = "scgi"
address = "127.0.0.1:9002"
[[routes]]
path = "/"
interface = "static"
root = "public"
"""


class Explained:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Explain = Callable[..., Explained]


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    for name in ("scripts/run.sh", "scripts/off.sh", "public/page.php", "public/page.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.chmod(0o644 if name == "scripts/off.sh" else 0o755)
    (tmp_path / "g.toml").write_text(CONFIG)

    def run(*arguments: str) -> Explained:
        code = main(["explain", arguments[0], str(tmp_path / "g.toml"), *arguments[1:]])
        return Explained(code, *capsys.readouterr())

    return run


def test_a_script(explain: Explain, tmp_path: Path) -> None:
    told = explain("http://example.org:8080/cgi/./run.sh/a%20b?x=1", "-H", "X-Colour: red")
    assert told.code == 0
    for line in ("path, decoded and normalised once: /cgi/run.sh/a b", "routes[1] /cgi/ (cgi): takes it",
                 "routes[5] / (static): matches, too, but comes later", "SCRIPT_NAME=/cgi/run.sh", "PATH_INFO=/a b",
                 f"SCRIPT_FILENAME={tmp_path}/scripts/run.sh", "QUERY_STRING=x=1", "HTTP_X_COLOUR=red", "COLOUR=blue",
                 "SERVER_NAME=example.org", "SERVER_PORT=8080", "routes[3] /api (http): is for host api.example",
                 "routes[2] *.php (fastcgi): does not match: suffix .php"):  # fmt: skip
        assert f"  {line}\n" in told.out


def test_php(explain: Explain, tmp_path: Path) -> None:
    told = explain("/page.php/info")
    assert told.code == 0
    for part in (f"SCRIPT_FILENAME  {tmp_path}/public/page.php (exists)", "connected within no bound", "in all 5 s",
                 "SCRIPT_NAME=/page.php", "PATH_INFO=/info", "REDIRECT_STATUS=200"):  # fmt: skip
        assert part in told.out


@pytest.mark.parametrize(
    ("url", "told"),
    [("/cgi/off.sh", "403 (not-executable)"), ("/cgi/none", "404 (no-file)"), ("/cgi/run.sh%2f", "404 (encoded-slash)"),
     ("/x/../..", "400"), ("/none.php", "404 (no-file)"), ("/%zz", "400")],
)  # fmt: skip
def test_a_path_that_ends_in_an_error(explain: Explain, url: str, told: str) -> None:
    answer = explain(url)
    assert answer.code == 1
    assert told in answer.out


def test_the_remedy_is_told(explain: Explain, tmp_path: Path) -> None:
    assert f"remedy: chmod +x {tmp_path}/scripts/off.sh" in explain("/cgi/off.sh").out


def test_the_method_decides_between_routes(explain: Explain) -> None:
    told = explain("/form").out
    assert "routes[4] /form (scgi): matches, but only for POST" in told
    assert "routes[5] / (static): takes it" in told
    assert "routes[4] /form (scgi): takes it" in explain("/form", "-X", "POST").out


def test_a_host_given_as_a_field(explain: Explain) -> None:
    told = explain("/api/x", "-H", "host: API.example:80").out
    assert "routes[3] /api (http): takes it" in told
    assert told.count("API.example:80") == 2  # the first line, and the one field line that the upstream gets


def test_a_file_that_is_there_and_one_that_is_not(explain: Explain) -> None:
    assert "public/page.txt (exists)" in explain("/page.txt").out
    assert "public/none.txt (does not exist)" in explain("/none.txt").out


@pytest.mark.parametrize("arguments", [("http://[::1/",), ("http://h:x/",), ("/", "-H", "no colon")])
def test_a_mistake_is_told(explain: Explain, arguments: tuple[str, ...]) -> None:
    told = explain(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err

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
strip_prefix = true
host = "upstream"
[[routes]]
path = "/form"
methods = ["POST"]
interface = "scgi"
address = "127.0.0.1:9002"
[[routes]]
path = "/"
interface = "static"
root = "public"
[[routes]]
path = "/app"
interface = "fastcgi"
app = "app"
[apps.app]
command = ["sh"]
interface = "fastcgi"
user = "nobody"
[[routes]]
path = "/hosted/cgi"
interface = "cgi"
app = "hosted"
[[routes]]
path = "/hosted/scgi"
interface = "scgi"
app = "hosted"
[[routes]]
path = "/hosted/ht tp"
interface = "http"
app = "hosted"
host = "upstream"
[apps.hosted]
wsgi = "hello:application"
workers = 2
"""


class Explained:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Explain = Callable[..., Explained]


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    for name in ("scripts/run.sh", "scripts/off.sh", "public/page.php", "public/page.txt", "public/.htaccess",
                 "public/page.php~", "public/docs/index.html", "public/list/file"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        path.chmod(0o644 if name == "scripts/off.sh" else 0o755)
    (tmp_path / "public/page.txt").write_text("text")
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
    assert told.startswith("GET /api/x  (Host: API.example:80)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("/page.txt",), 0, "answer: 200, the file {}/public/page.txt, 4 octets\n"),
        (("/docs/",), 0, "answer: 200, the file {}/public/docs/index.html, 0 octets\n"),
        (("/docs?a=1",), 1, "answer: 301 to /docs/?a=1: the path is a directory\n"),
        (("/list/",), 1, "answer: 404 (no-file): /list/: it is a directory without an index"),
        (("/none.txt",), 1, "answer: 404 (no-file): /none.txt: there is no such file"),
        (("/.htaccess",), 1, "answer: 404 (no-file): /.htaccess: hidden files are not served"),
        (("/page.php~",), 1, "answer: 404 (no-file): /page.php~: another route runs this file"),
        (("/page.txt", "-X", "POST"), 1, "answer: 405 (method): POST on a file"),
        (("/page.txt", "-X", "TRACE"), 1, "answer: 501 (trace)"),
        (("/page.txt", "-H", "Content-Length: 2000000000"), 1, "answer: 413"),
        (("/page.txt", "-H", "Expect: cake"), 1, "answer: 417"),
        (("/" + "x" * 9000,), 1, "answer: 414"),
    ],
)
def test_a_file_is_answered_as_it_is_served(
    explain: Explain, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    answer = explain(*arguments)
    assert (answer.code, answer.err) == (code, "")
    assert told.format(tmp_path) in answer.out


def test_a_listing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "/", str(tmp_path)]) == 0
    assert "answer: 200, a list of what lies in" in capsys.readouterr().out


def test_without_a_config_it_is_what_serve_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page").touch()
    assert main(["explain", "/page"]) == 0
    assert f"{tmp_path}/page" in capsys.readouterr().out
    (tmp_path / "gateway.toml").write_text('[[routes]]\npath = "/x"\ninterface = "http"\naddress = "a:1"\n')
    assert main(["explain", "/x"]) == 0


def test_an_upstream_gets_what_is_told(explain: Explain) -> None:
    told = explain("http://api.example/api/users?a=1", "-H", "Connection: close, X-Hop", "-H", "X-Hop: 1", "-H", "A: b")
    assert told.code == 0
    rest = told.out.partition("request-target: ")[2]
    assert rest.splitlines()[0] == "/users?a=1"
    assert [line for line in rest.splitlines() if line.startswith("  ")] == ["  Host: 127.0.0.1:9001", "  A: b"]


def test_who_runs_an_app(explain: Explain) -> None:
    assert "  user nobody\n" in explain("/app").out
    assert "user" not in explain("/page.php").out.partition("interface fastcgi")[2]  # of workers somebody else runs


def test_what_hosts_an_application(explain: Explain, tmp_path: Path) -> None:
    told = explain("/hosted/scgi/x").out
    assert f"  app hosted: wsgi hello:application, a module in {tmp_path}, or one that is installed\n" in told
    assert "  hosted by threadpool, 2 processes x 8 threads:\n" in told
    command = next(line.split() for line in told.splitlines() if " worker " in line)
    assert command[-1] == "hello:application"
    for words in (["-m", "gateway", "worker"], ["--interface", "scgi"], ["--concurrency", "threadpool"], ["--max", "2"]):
        assert f" {' '.join(words)} " in " ".join(command)
    assert "  SCRIPT_NAME=/hosted/scgi\n" in told
    assert "  PATH_INFO=/x\n" in told


def test_what_hosts_an_application_under_cgi(explain: Explain) -> None:
    told = explain("/hosted/cgi/x").out
    assert "  hosted by a process for each request:\n" in told
    assert "--concurrency" not in told
    assert "  at most 32 at the same time, 128 waiting\n" in told
    assert "  SCRIPT_NAME=/hosted/cgi\n" in told
    assert "SCRIPT_FILENAME" not in told


def test_what_a_hosted_application_gets_over_http(explain: Explain) -> None:
    told = explain("/hosted/ht%20tp/x", "-H", "X-Forwarded-Prefix: /mine").out
    assert "field lines for app hosted, beside" in told
    lines = [line for line in told.partition("field lines")[2].splitlines() if line.startswith("  ")]
    assert lines == ["  Host: localhost", "  X-Forwarded-Prefix: /hosted/ht%20tp"]


def test_content_that_is_announced_and_the_exchange_id(explain: Explain) -> None:
    told = explain("/cgi/run.sh", "-X", "POST", "-H", "Content-Length: 5", "-H", "A_B: c").out
    assert "  CONTENT_LENGTH=5\n" in told
    assert "  EXCHANGE_ID=" in told
    assert "dropped, as its variable could be that of another name: A_B" in told


@pytest.mark.parametrize(
    "arguments",
    [("http://[::1/",), ("http://h:x/",), ("/", "-H", "no colon"), ("/", "-X", "FO O"), ("/", "-H", "Host: x y"),
     ("/a b",), ("/", "-X", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"), ("/", "-H", "A: b\r\nC: d")],
)  # fmt: skip
def test_a_mistake_is_told(explain: Explain, arguments: tuple[str, ...]) -> None:
    told = explain(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err

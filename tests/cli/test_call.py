"""`gateway call` and `gateway.client` against real workers: php-fpm, php-cgi, flup, scripts in sh.

Promise: every exit code has a worker, real or scripted, that brings it about.
Next: `gateway/client.py`.
"""

from __future__ import annotations

import argparse
import errno
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path

import pytest

import sample_apps
from gateway.cli import call as command
from gateway.client import CallError, Outcome, call
from protocols.fastcgi_records import END_REQUEST, STDERR, STDOUT, ProtocolStatus, encode_pair, record
from tests.conftest import eventually, needs

SAMPLES = Path(sample_apps.__path__[0])
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

# ---------------------------------------------------------------------- workers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A document root with PHP scripts."""
    root = tmp_path_factory.mktemp("site")
    (root / "show.php").write_text(
        "<?php header('X-Path: ' . ($_SERVER['PATH_INFO'] ?? '-'));"
        " echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['QUERY_STRING'], ' ',"
        " strlen(file_get_contents('php://input')), ' ', $_SERVER['HTTP_X_MARK'] ?? '-', ' ',"
        " getenv('MARK') ?: '-';"
    )
    (root / "large.php").write_text("<?php echo str_repeat('0123456789abcdef', 1 << 17);")
    (root / "log.php").write_text("<?php http_response_code(503); error_log('the reason'); echo 'sorry';")
    return root


@pytest.fixture(scope="module")
def fpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """php-fpm with one pool on a unix socket and one on TCP, by kind."""
    program = needs(Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name)
    directory = tmp_path_factory.mktemp("fpm")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pool = "pm = static\npm.max_children = 1\nping.path = /ping\npm.status_path = /status\nuser = root\ngroup = root\n"
    config = directory / "fpm.conf"
    config.write_text(
        f"[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n"
        f"[one]\nlisten = {directory}/fpm.sock\n{pool}[two]\nlisten = 127.0.0.1:{port}\n{pool}"
    )
    process = subprocess.Popen(
        [program, "-n", "-R", "-F", "-y", str(config)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        try:
            said = ""
            for line in process.stderr:
                said += line
                if "ready to handle connections" in line:
                    break
            else:
                pytest.fail(f"php-fpm did not start: {said}")
            yield {"unix": f"fastcgi+unix://{directory}/fpm.sock", "tcp": f"fastcgi://127.0.0.1:{port}"}
        finally:
            process.terminate()
            process.stderr.read()


@contextmanager
def worker(argv: list[str], path: Path) -> Iterator[str]:
    """A worker that serves the listening socket on its descriptor 0; the address as a unix path."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen(argv, stdin=listener.fileno(), env=ENVIRONMENT) as process:
            try:
                yield str(path)
            finally:
                process.terminate()


@pytest.fixture
def php_cgi(tmp_path: Path) -> Iterator[str]:
    with worker([needs("php-cgi"), "-n"], tmp_path / "php.sock") as path:
        yield f"fastcgi+unix://{path}"


@contextmanager
def scripted(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A peer on TCP that reads once, writes what `answer` makes of it, and closes; host and port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            octets = connection.recv(1 << 20)
            connection.sendall(answer(octets))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Makes a CGI script of sh lines; its target."""

    def make(lines: str, name: str = "script.sh") -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + lines)
        path.chmod(0o755)
        return f"cgi:{path}"

    return make


def gateway_call(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["call", *argv])
    return int(args.run(args))


def failure(target: str, **options: object) -> CallError:
    with pytest.raises(CallError) as caught:
        call(target, **options)  # type: ignore[arg-type]
    return caught.value


# ---------------------------------------------------------------------- FastCGI


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_php_fpm_answers_its_ping_and_status_paths(fpm: dict[str, str], kind: str) -> None:
    ping = call(fpm[kind], path="/ping", script_filename="/ping")
    assert (ping.status, ping.content, ping.app_status) == (200, b"pong", 0)
    status = call(fpm[kind], path="/status?json", script_filename="/status")
    assert b'"accepted conn":' in status.content


def test_path_may_stand_in_the_target(fpm: dict[str, str]) -> None:
    assert call(fpm["tcp"] + "/ping", script_filename="/ping").content == b"pong"


def test_php_script_below_a_root_gets_path_info_and_content(fpm: dict[str, str], site: Path) -> None:
    result = call(
        fpm["tcp"] + "/show.php/more?a=1", method="POST", root=str(site), content=b"x" * 100_000,
        fields=[(b"X-Mark", b"seen")], environment=[(b"MARK", b"set")],
    )  # fmt: skip
    assert result.content == b"POST a=1 100000 seen set"
    assert (b"X-Path", b"/more") in result.fields
    assert result.variables[b"SCRIPT_FILENAME"] == os.fsencode(site / "show.php")


def test_large_response_arrives_whole(fpm: dict[str, str], site: Path) -> None:
    assert call(fpm["unix"], path="/large.php", root=str(site)).content == b"0123456789abcdef" * (1 << 17)


def test_unknown_script_of_php_fpm_is_not_found(fpm: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(fpm["tcp"] + "/nowhere.php", "--root", "/srv") == Outcome.NOT_FOUND
    out, err = capfd.readouterr()
    assert out == "File not found.\n"
    assert "Primary script unknown" in err
    assert "SCRIPT_FILENAME was /srv/nowhere.php" in err


def test_php_cgi_serves_and_does_not_find(php_cgi: str, site: Path) -> None:
    assert call(php_cgi, path="/show.php?q", root=str(site)).content == b"GET q 0 - -"
    missing = call(php_cgi, path="/nowhere.php", root=str(site))
    assert missing.outcome() is Outcome.NOT_FOUND
    assert missing.content == b"No input file specified.\n"


def test_standard_error_of_a_worker_is_shown(php_cgi: str, site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(php_cgi, "--path", "/log.php", "--root", str(site)) == Outcome.STATUS
    out, err = capfd.readouterr()
    assert out == "sorry"
    assert "the reason" in err
    assert "status 503" in err


def test_verbose_shows_variables_and_each_record(fpm: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(fpm["tcp"] + "/ping", "--script-filename", "/ping", "-v", "-d", "12345678") == 0
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == "pong"
    assert "REQUEST_METHOD=POST" in lines
    assert "CONTENT_TYPE=application/x-www-form-urlencoded" in lines
    sent = [line.split()[1] for line in lines if line.startswith("> ")]
    assert sent == ["BEGIN_REQUEST", "PARAMS", "PARAMS", "STDIN", "STDIN"]
    assert "> STDIN id 1, 8 octets, padding 0" in lines
    assert any(line.startswith("< STDOUT id 1, ") for line in lines)
    assert "< appStatus 0, protocolStatus REQUEST_COMPLETE" in lines


def test_overloaded_worker_is_busy() -> None:
    end = record(END_REQUEST, 1, bytes(4) + bytes((ProtocolStatus.OVERLOADED, 0, 0, 0)))
    with scripted(lambda _: end) as address:
        assert failure(f"fastcgi://{address}/").outcome is Outcome.BUSY


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        record(STDOUT, 1, b"Content-Type: text/plain\n\nlooks whole") + record(STDOUT, 1, b""),
        record(STDOUT, 1, b"no header") + record(END_REQUEST, 1, bytes(8)),
        record(END_REQUEST, 1, bytes(4) + bytes((ProtocolStatus.UNKNOWN_ROLE, 0, 0, 0))),
    ],
)
def test_answer_that_is_no_fastcgi_response_is_a_protocol_error(answer: bytes) -> None:
    with scripted(lambda _: answer) as address:
        assert failure(f"fastcgi://{address}/").outcome is Outcome.PROTOCOL


def test_records_are_told_even_where_the_call_fails() -> None:
    with scripted(lambda _: record(STDERR, 1, b"oh")) as address:
        error = failure(f"fastcgi://{address}/")
    assert error.records[0] == "> BEGIN_REQUEST id 1, 8 octets, padding 0"
    assert error.records[-1] == "< STDERR id 1, 2 octets, padding 6"
    assert error.stderr == b"oh"


def test_without_a_file_the_whole_path_is_path_info() -> None:
    seen = []

    def answer(octets: bytes) -> bytes:
        seen.append(octets)
        return record(STDOUT, 1, b"Status: 204\n\n") + record(END_REQUEST, 1, bytes(8))

    with scripted(answer) as address:
        assert call(f"fastcgi://{address}/a%20b").status == 204
    with scripted(answer) as address:
        call(f"fastcgi://{address}/app/x", script_name="/app")
    assert encode_pair(b"SCRIPT_NAME", b"") in seen[0]
    assert encode_pair(b"PATH_INFO", b"/a b") in seen[0]
    assert b"SCRIPT_FILENAME" not in seen[0]
    assert encode_pair(b"SCRIPT_NAME", b"/app") in seen[1]
    assert encode_pair(b"PATH_INFO", b"/x") in seen[1]


# ---------------------------------------------------------------------- SCGI


def test_flup_answers_over_scgi(tmp_path: Path) -> None:
    with worker([sys.executable, str(SAMPLES / "flup_scgi.py")], tmp_path / "scgi.sock") as path:
        result = call(f"scgi+unix://{path}")
        assert b"reached over SCGI" in result.content
        assert result.outcome() is Outcome.OK
        assert result.records[-1] == "< end of file"
        assert call(f"scgi+unix://{path}", path="/nowhere").outcome() is Outcome.NOT_FOUND
        echo = call(f"scgi+unix://{path}", path="/echo", method="POST", content=b"x" * 300_000)
        assert b"300000" in echo.content


def test_scgi_response_shorter_than_it_says_is_a_protocol_error() -> None:
    with scripted(lambda _: b"Content-Type: text/plain\nContent-Length: 9\n\nshort") as address:
        assert failure(f"scgi://{address}/").outcome is Outcome.PROTOCOL


# ---------------------------------------------------------------------- HTTP


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path.startswith("/found") else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{self.path} for {self.headers['Host']}".encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_http_worker_answers(web: str) -> None:
    result = call(web + "/found?a=1", fields=[(b"Host", b"example.org")])
    assert result.content == b"/found?a=1 for example.org"
    assert "> GET /found?a=1 HTTP/1.1" in result.records
    assert "< HTTP/1.1 200 OK" in result.records
    assert call(web + "/lost").outcome() is Outcome.NOT_FOUND


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
def test_answer_that_is_no_http_response_is_a_protocol_error(answer: bytes) -> None:
    with scripted(lambda _: answer) as address:
        assert failure(f"http://{address}/").outcome is Outcome.PROTOCOL


# ---------------------------------------------------------------------- CGI


def test_script_gets_only_the_meta_variables(script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    target = script('printf "Content-Type: text/plain\\n\\n"; env; pwd\n')
    result = call(target, path="/more?a=1", environment=[(b"MARK", b"set")])
    lines = result.content.decode().splitlines()
    assert {"PATH_INFO=/more", "QUERY_STRING=a=1", "SCRIPT_NAME=/script.sh", "MARK=set"} <= set(lines)
    assert "REQUEST_URI=/script.sh/more?a=1" in lines
    assert lines[-1] == os.path.dirname(target.removeprefix("cgi:"))
    assert not any(line.startswith("SECRET=") for line in lines)


def test_script_is_found_below_the_current_directory(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("echo Status: 204; echo\n")
    monkeypatch.chdir(tmp_path)
    assert call("cgi:script.sh").status == 204


def test_content_goes_through_a_script_both_ways_without_deadlock(script: Callable[[str], str]) -> None:
    content = os.urandom(1 << 20)
    result = call(script("echo Content-Type: x/y; echo; cat; echo done >&2\n"), method="POST", content=content)
    assert result.content == content
    assert result.stderr == b"done\n"


def test_head_has_no_content_and_a_local_redirect_is_told(script: Callable[[str], str]) -> None:
    assert call(script("echo Content-Type: x/y; echo; echo text\n"), method="HEAD").content == b""
    result = call(script("echo Location: /elsewhere; echo\n"))
    assert (result.status, result.fields) == (302, ((b"Location", b"/elsewhere"),))


def test_script_that_prints_no_header_is_a_protocol_error(script: Callable[[str], str]) -> None:
    error = failure(script("echo oops\n"))
    assert error.outcome is Outcome.PROTOCOL
    assert "oops" in error.what


def test_exit_status_of_a_script_is_told(script: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(script("echo Content-Type: x/y; echo; echo hi; exit 3\n")) == 0
    assert capfd.readouterr() == ("hi\n", "exit status: 3\n")


def test_what_a_failing_script_says_is_told(script: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(script("echo no such table >&2; exit 3\n")) == Outcome.PROTOCOL
    out, err = capfd.readouterr()
    assert out == ""
    assert "stderr: no such table\n" in err
    assert "script.sh exited with code 3: it printed nothing\n" in err
    assert "spoken" not in err


def test_script_that_was_killed_inside_its_response(script: Callable[[str], str]) -> None:
    error = failure(script("echo Content-Type: x/y; echo; echo part; echo why >&2; kill -KILL $$\n"))
    assert (error.outcome, error.stderr, error.app_status) == (Outcome.PROTOCOL, b"why\n", -9)
    assert "was ended by SIGKILL" in error.what


def test_what_a_slow_script_says_is_told(script: Callable[[str], str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")  # nobody opens its other end
    error = failure(script(f"echo waiting for a lock >&2; read line <{tmp_path}/never\n"), timeout_s=2.0)
    assert (error.outcome, error.stderr) == (Outcome.TIMEOUT, b"waiting for a lock\n")


def test_ctrl_c_ends_the_script_and_all_it_started(tmp_path: Path) -> None:
    """The caller gets SIGINT from the script itself, once its child is there."""
    path = tmp_path / "script.sh"
    path.write_text(f"#!/bin/sh\nsleep 1000 & echo $! $$ >{tmp_path}/pids\nkill -INT $PPID\nwait\n")
    path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "call", f"cgi:{path}", "--timeout", "50"], cwd=SAMPLES.parent,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    for pid in (tmp_path / "pids").read_text().split():
        eventually(lambda pid=pid: not Path("/proc", pid).exists() or "Z" in stat_of(pid), f"the end of {pid}")


def stat_of(pid: str) -> str:
    try:
        return Path("/proc", pid, "stat").read_text().split()[2]
    except OSError:
        return "Z"


def test_script_that_does_not_end_is_killed_with_its_children(script: Callable[[str], str]) -> None:
    error = failure(script("sleep 1000 & wait\n"), timeout_s=0.2)  # returns only once the pipes are closed
    assert error.outcome is Outcome.TIMEOUT


def test_script_that_cannot_be_run_is_refused(script: Callable[[str], str], tmp_path: Path) -> None:
    target = script("")
    (tmp_path / "script.sh").chmod(0o644)
    assert failure(target).outcome is Outcome.REFUSED
    assert failure(f"cgi:{tmp_path}/none.sh").outcome is Outcome.REFUSED


# ---------------------------------------------------------------------- no connection, no answer


def test_nobody_listening_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert gateway_call(f"fastcgi://127.0.0.1:{port}/") == Outcome.REFUSED
    assert gateway_call(f"scgi+unix://{tmp_path}/none.sock") == Outcome.REFUSED
    out, err = capfd.readouterr()
    assert out == ""
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in err
    assert f"cannot connect to unix:{tmp_path}/none.sock: No such file or directory" in err


def test_full_backlog_is_busy(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(path)
        listener.listen(0)
        full = False
        while not full:
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            full = client.connect_ex(path) == errno.EAGAIN
        assert failure(f"fastcgi+unix://{path}").outcome is Outcome.BUSY


def test_silence_is_a_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for interface in ("fastcgi", "scgi", "http"):
            assert failure(f"{interface}://{address}/", timeout_s=0.1).outcome is Outcome.TIMEOUT


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["http://a..b/"],
        ["http://" + "x" * 64 + "/"],
        ["http://127.0.0.1:1/", "--timeout", "nan"],
        ["http://127.0.0.1:1/", "--timeout", "inf"],
        ["http://127.0.0.1:1/", "--timeout", "1e30"],
        ["http://127.0.0.1:1/", "--timeout", "0"],
        ["http://127.0.0.1:1/", "-X", "\udcff\ud800"],
        ["cgi:/bin/true", "-e", "A=\ud800"],
        ["scgi+unix:///" + "x" * 200],
        ["https://127.0.0.1/"],
        ["fastcgi://127.0.0.1/"],
        ["fastcgi://127.0.0.1:x/"],
        ["fastcgi://127.0.0.1:1/a", "--path", "/b"],
        ["fastcgi://127.0.0.1:1/%zz"],
        ["fastcgi://127.0.0.1:1/a", "--script-name", "/b"],
        ["http://127.0.0.1:1/", "-e", "A=b"],
        ["http://127.0.0.1:1/", "-X", "TWO WORDS"],
        ["http://127.0.0.1:1/", "-H", "no colon"],
        ["http://127.0.0.1:1/", "-H", "Content-Length: 5"],
        ["scgi://127.0.0.1:1/", "-e", "no equals sign"],
        ["scgi://127.0.0.1:1/", "-d", "@/nonexistent"],
    ],
)
def test_wrong_call_is_told_before_anything_is_sent(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert gateway_call(*argv) == Outcome.USAGE
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("gateway call: ")


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("cgi:/bin/true", {"environment": [(b"A", b"\0")]}),
        ("cgi:/bin/true", {"environment": [(b"A\0", b"b")]}),
        ("cgi:/bin/true", {"environment": [(b"A=B", b"c")]}),
        ("scgi://127.0.0.1:1/", {"environment": [(b"", b"c")]}),
        ("cgi:/bin/tr\0ue", {}),
        ("cgi:/bin/true", {"script_filename": "a\0b"}),
        ("cgi:/bin/true", {"root": "a\0b"}),
        ("http+unix:///a\0b", {}),
        ("http://127.0.0.1:1/", {"method": "\ud800"}),
        ("http://127.0.0.1:1/\ud800", {}),
        ("http://127.0.0.1:1/", {"timeout_s": float("nan")}),
        ("http://127.0.0.1:1/", {"timeout_s": -1}),
    ],
)
def test_any_wrong_call_of_the_function_is_a_call_error(target: str, options: dict[str, object]) -> None:
    assert failure(target, **options).outcome is Outcome.USAGE


def test_name_of_another_alphabet_is_sent_as_the_resolver_asks_for_it() -> None:
    assert b"Host: xn--bcher-kva.invalid:81\r\n" in sent_for("http://b\u00fccher.invalid:81/")
    assert b"Host: [::1]:81\r\n" in sent_for("http://[::1]:81/")
    assert b"Host: a.invalid\r\n" in sent_for("http://user:secret@a.invalid/")


def sent_for(target: str) -> bytes:
    """The Host that a target stands for, as a line."""
    from gateway.client import _parse_target

    return b"Host: " + _parse_target(target)[2].encode() + b"\r\n"


def test_head_and_content_go_where_the_flags_say(
    script: Callable[[str], str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    target = script("echo Content-Type: x/y; echo X-Is: $CONTENT_TYPE; echo; cat\n")
    assert gateway_call(target, "-i", "-d", f"@{tmp_path}/in", "-H", "Content-Type: a/b", "-o", f"{tmp_path}/out") == 0
    assert capfdbinary.readouterr().out == b"HTTP/1.1 200 \r\nContent-Type: x/y\r\nX-Is: a/b\r\n\r\n"
    assert (tmp_path / "out").read_bytes() == b"from a file"


def test_highest_good_status_and_fail_decide(script: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    target = script("echo Status: 451 Unavailable; echo; echo why\n")
    assert gateway_call(target) == Outcome.STATUS
    assert capfd.readouterr().out == "why\n"
    assert gateway_call(target, "-f") == Outcome.STATUS
    assert capfd.readouterr().out == ""
    assert gateway_call(target, "-f", "--max-status", "451") == Outcome.OK
    assert capfd.readouterr().out == "why\n"

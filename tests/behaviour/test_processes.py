"""What a script gets, and what becomes of it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import eventually, read_all, read_until


def script(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


SH = "#!/bin/sh\n"
PLAIN = "echo Content-Type: text/plain\necho\n"


@pytest.fixture(scope="module")
def site(gateway: Any, directories: Any) -> Any:
    """A directory of scripts, with the routes that treat them differently."""
    directory = directories("site")
    bin = directory / "cgi-bin"
    script(bin, "env.sh", SH + PLAIN + "env; echo ARGS $# $*; pwd; echo $0\n")
    script(bin, "sub/deep.sh", SH + PLAIN + "echo $SCRIPT_NAME $PATH_INFO $PATH_TRANSLATED\n")
    script(bin, "fds.sh", SH + PLAIN + "ls /proc/self/fd | sort -n | tr '\\n' ' '\ngrep Sig /proc/self/status\n")
    script(bin, "pid.sh", SH + PLAIN + "echo $$ > $HTTP_X_DIR/pid; echo here; exec sleep 60\n")
    script(bin, "grandchild.sh", SH + PLAIN + "sleep 60 & echo $! > $HTTP_X_DIR/pid; echo done\n")
    script(bin, "stubborn.sh", SH + "trap '' TERM\necho $$ > $HTTP_X_DIR/pid\nwhile :; do sleep 60; done\n")
    script(bin, "noisy.sh", SH + "head -c 1000000 /dev/zero | tr '\\0' e >&2\n" + PLAIN + "echo quiet\n")
    script(bin, "deaf.sh", SH + "exec <&-\n" + PLAIN + "echo deaf\n")
    script(bin, "cat.sh", SH + PLAIN + "exec cat\n")
    script(bin, "killed.sh", SH + PLAIN + "echo some\nkill -KILL $$\n")
    script(bin, "code.sh", SH + PLAIN + "echo fine\nexit 3\n")
    script(bin, "nph-raw.sh", SH + "printf 'HTTP/1.1 203 Own\\r\\nX-Raw: 1\\r\\n\\r\\nraw'\n")
    script(bin, "wait.sh", SH + PLAIN + "touch $HTTP_X_DIR/started\nwhile ! [ -e $HTTP_X_DIR/go ]; do sleep 0.02; done\n"
           "echo went\n")  # fmt: skip
    script(bin, "after.sh", SH + PLAIN + "echo $$ > $HTTP_X_DIR/pid\nwhile ! [ -e $HTTP_X_DIR/go ]; do sleep 0.02; "
           "done\ntouch $HTTP_X_DIR/finished\n")  # fmt: skip
    script(bin, "tidy.sh", SH + "printf 'Content-Type: text/plain\\nContent-Length: 4\\n\\nwell'\n"
           "while ! [ -e $HTTP_X_DIR/go ]; do sleep 0.02; done\necho tidied >&2\ntouch $HTTP_X_DIR/finished\n")  # fmt: skip
    script(bin, "crlf.sh", "#!/bin/sh\r\necho\r\n")
    script(bin, "nointerpreter", "#!/no/such/program\n")
    script(bin, "noexec", "no program at all\n")
    (bin / "plain.sh").write_text(SH)
    (bin / ".hidden.sh").write_text(SH)
    script(bin, "env.sh~", SH + PLAIN)
    os.symlink("/bin/echo", bin / "outside")
    os.symlink("env.sh", bin / "called.sh")
    script(bin, "colour.sh", SH + "printf 'in \\033[31mred\\n' >&2\n" + PLAIN)
    toml = f"""
[[routes]]
path = "/cgi-bin/"
interface = "cgi"
root = "{bin}"
environment = {{ OWN = "mine", HTTP_X_FIXED = "route" }}
timeouts = {{ response = "1s", read = "1s" }}
[[routes]]
path = "/plain/"
interface = "cgi"
root = "{bin}"
[[routes]]
path = "/few/"
interface = "cgi"
root = "{bin}"
processes = 1
queue = 1
[[routes]]
path = "/on/"
interface = "cgi"
root = "{bin}"
on_disconnect = "continue"
indexed_query = true
authorization = true
[[routes]]
path = "/"
interface = "static"
root = "{directory}"
"""
    return gateway(toml)


def get(site: Any, path: str, **arguments: Any) -> requests.Response:
    return requests.get(site.url + path, timeout=20, **arguments)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended between the open and the read
        return False


def test_the_environment_is_built_from_nothing(site: Any) -> None:
    lines = get(site, "/cgi-bin/env.sh/a%20b?x", headers={"X-Fixed": "client"}).text.splitlines()
    seen = dict(line.partition("=")[::2] for line in lines if "=" in line)
    assert "HOME" not in seen
    assert seen["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert (seen["OWN"], seen["HTTP_X_FIXED"]) == ("mine", "route")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/cgi-bin/env.sh", "/a b")
    assert seen["SCRIPT_FILENAME"].endswith("/cgi-bin/env.sh")
    assert seen["PATH_TRANSLATED"].endswith("/cgi-bin/a b")
    assert "ARGS 0" in lines
    assert lines[-2].endswith("/cgi-bin")  # its own directory
    assert lines[-1].endswith("/cgi-bin/env.sh")


def test_a_script_knows_by_which_name_it_was_called(site: Any) -> None:
    """Programs with several names tell what to do by it (SEMANTICS 76)."""
    text = get(site, "/cgi-bin/called.sh").text
    assert text.endswith("/cgi-bin/called.sh\n")
    assert "SCRIPT_NAME=/cgi-bin/called.sh\n" in text


def test_an_indexed_query_only_where_allowed(site: Any) -> None:
    assert "ARGS 0" in get(site, "/cgi-bin/env.sh?one+two").text
    assert "ARGS 2 one two" in get(site, "/on/env.sh?one+two").text
    assert "ARGS 0" in get(site, "/on/env.sh?one=two").text


def test_authorization_only_where_allowed(site: Any) -> None:
    fields = {"Authorization": "Bearer x"}
    assert "HTTP_AUTHORIZATION" not in get(site, "/cgi-bin/env.sh", headers=fields).text
    assert "HTTP_AUTHORIZATION=Bearer x" in get(site, "/on/env.sh", headers=fields).text


def test_the_script_is_the_first_file_on_the_path(site: Any) -> None:
    text = get(site, "/cgi-bin/sub/deep.sh/x/y").text
    assert text.startswith("/cgi-bin/sub/deep.sh /x/y /")


def test_nothing_is_inherited(site: Any) -> None:
    text = get(site, "/cgi-bin/fds.sh").text
    assert text.startswith("0 1 2 3 ")  # 3 is the directory that ls reads
    assert len(text.partition("SigQ")[0].split()) == 4
    assert "SigBlk:\t0000000000000000" in text
    assert "SigIgn:\t0000000000000000" in text


@pytest.mark.parametrize(
    ("path", "status", "log"),
    [
        ("/cgi-bin/none.sh", 404, "there is no script"),
        ("/cgi-bin/plain.sh", 403, "chmod +x"),
        ("/cgi-bin/.hidden.sh", 404, "hidden files"),
        ("/cgi-bin/env.sh~", 404, "backup copies"),
        ("/cgi-bin/outside", 403, "symlinks"),
        ("/cgi-bin/", 403, "directory of scripts"),
        ("/cgi-bin/crlf.sh", 500, "500 crlf-shebang"),
        ("/cgi-bin/nointerpreter", 500, "names the interpreter /no/such/program"),
        ("/cgi-bin/noexec", 500, "not-a-program"),
        ("/cgi-bin/env.sh%2fx", 404, "encoded-slash"),
        ("/cgi-bin/killed.sh", None, "killed by SIGKILL"),
    ],
)
def test_what_cannot_be_run(site: Any, path: str, status: int | None, log: str) -> None:
    if status is None:
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(site, path)
    else:
        response = get(site, path)
        assert response.status_code == status
        assert "/bin/sh" not in response.text
    site.wait_for_log(log)


def test_scripts_are_not_served_by_the_static_route(site: Any) -> None:
    assert get(site, "/%63gi-bin/plain.sh").status_code == 403
    assert get(site, "//cgi-bin//plain.sh").status_code == 403
    assert get(site, "/x/../cgi-bin/plain.sh").status_code == 403


def test_a_time_limit_ends_the_whole_group(site: Any, tmp_path: Path) -> None:
    response = get(site, "/cgi-bin/stubborn.sh", headers={"X-Dir": str(tmp_path)})
    assert response.status_code == 504
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), "the end of a script that ignores SIGTERM")


def test_a_client_that_leaves_ends_the_script(site: Any, tmp_path: Path) -> None:
    with site.socket() as sock:
        sock.sendall(f"GET /on/../few/pid.sh HTTP/1.1\r\nHost: x\r\nX-Dir: {tmp_path}\r\n\r\n".encode())
        while b"here" not in sock.recv(65536):
            pass
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), "the end of the script")


def test_a_script_may_finish_without_its_client(site: Any, tmp_path: Path) -> None:
    with site.socket() as sock:
        sock.sendall(f"GET /on/after.sh HTTP/1.1\r\nHost: x\r\nX-Dir: {tmp_path}\r\n\r\n".encode())
        eventually((tmp_path / "pid").exists)
    (tmp_path / "go").touch()
    eventually((tmp_path / "finished").exists)


def test_a_client_that_leaves_with_its_whole_response_lets_the_script_tidy_up(site: Any, tmp_path: Path) -> None:
    with site.socket() as sock:
        sock.sendall(f"GET /few/tidy.sh HTTP/1.1\r\nHost: x\r\nX-Dir: {tmp_path}\r\n\r\n".encode())
        read_until(sock, b"well")
    assert get(site, "/plain/env.sh").ok  # the gateway has seen the end of the connection before
    (tmp_path / "go").touch()
    eventually((tmp_path / "finished").exists)
    site.wait_for_log("stderr: tidied")


def test_a_grandchild_that_holds_stdout_does_not_hold_the_response(site: Any, tmp_path: Path) -> None:
    response = get(site, "/few/grandchild.sh", headers={"X-Dir": str(tmp_path)})
    assert response.text == "done\n"
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), "the end of the grandchild")


def test_a_waiting_line_with_an_end(site: Any, tmp_path: Path) -> None:
    fields = {"X-Dir": str(tmp_path)}
    answers: list[str] = []

    def ask() -> None:
        while (response := get(site, "/few/wait.sh", headers=fields)).status_code == 503:
            pass  # a probe of ours had the place in the line
        answers.append(response.text)

    threads = [threading.Thread(target=ask) for _ in (1, 2)]
    threads[0].start()
    eventually((tmp_path / "started").exists)
    threads[1].start()

    def full() -> bool:
        try:
            return requests.get(site.url + "/few/env.sh", timeout=0.3).status_code == 503
        except requests.exceptions.Timeout:  # it took the place in the line, and has left it again
            return False

    eventually(full)
    assert get(site, "/few/env.sh").headers["Retry-After"] == "5"
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join()
    assert answers == ["went\n", "went\n"]


def test_a_full_stderr_blocks_nobody(site: Any) -> None:
    assert get(site, "/cgi-bin/noisy.sh").text == "quiet\n"
    site.wait_for_log("no line end in 65536 octets")


def test_what_a_script_says_commands_no_terminal(site: Any) -> None:
    assert get(site, "/cgi-bin/colour.sh").status_code == 200
    site.wait_for_log("stderr: in \\x1b[31mred")


def test_a_script_need_not_read_its_content(site: Any) -> None:
    response = requests.post(site.url + "/cgi-bin/deaf.sh", data=b"x" * 1_000_000, timeout=20)
    assert response.text == "deaf\n"


def test_ten_megabytes_both_ways_at_once(site: Any) -> None:
    content = os.urandom(1 << 20) * 10
    head = f"POST /cgi-bin/cat.sh HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    with site.socket() as sock:
        sending = threading.Thread(target=sock.sendall, args=(head.encode() + content,))
        sending.start()
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.read() == content
        sending.join()


def test_an_exit_status_is_logged_and_the_response_stands(site: Any) -> None:
    assert get(site, "/cgi-bin/code.sh").text == "fine\n"
    site.wait_for_log("exited with status 3")


def test_nph(site: Any) -> None:
    response = get(site, "/cgi-bin/nph-raw.sh")
    assert (response.status_code, response.headers["X-Raw"], response.text) == (203, "1", "raw")


def test_too_large_an_environment(site: Any) -> None:
    response = get(site, "/cgi-bin/env.sh?" + "x" * 7000, headers={"A": "a" * 20000})
    assert response.status_code == 200


def test_a_thousand_aborted_requests_leave_nothing_behind(site: Any, tmp_path: Path) -> None:
    """Some before their script runs, some in the middle of its response (SEMANTICS 82)."""
    get(site, "/plain/env.sh")
    before = site.descriptors()
    request = f"GET /plain/pid.sh HTTP/1.1\r\nHost: x\r\nX-Dir: {tmp_path}\r\n\r\n".encode()
    for number in range(1000):
        with site.socket() as sock:
            sock.sendall(request)
            if number % 2:
                read_until(sock, b"here\n\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: not site.children(), "the end of all scripts", 20)
    eventually(lambda: site.descriptors() <= before, "the closing of all descriptors")
    assert get(site, "/cgi-bin/env.sh").status_code == 200


def test_sigterm_finishes_what_is_in_flight(gateway: Any, directories: Any, tmp_path: Path) -> None:
    directory = directories("drain")
    script(directory, "wait.sh", SH + PLAIN + "touch $HTTP_X_DIR/started; while ! [ -e $HTTP_X_DIR/go ]; "
           "do sleep 0.02; done\necho went\n")  # fmt: skip
    one = gateway(f'[[routes]]\npath = "/"\ninterface = "cgi"\nroot = "{directory}"\n')
    with one.socket() as sock, one.socket() as idle:
        sock.sendall(f"GET /wait.sh HTTP/1.1\r\nHost: x\r\nX-Dir: {tmp_path}\r\n\r\n".encode())
        eventually((tmp_path / "started").exists)
        one.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""  # idle connections close
        (tmp_path / "go").touch()
        assert read_all(sock).endswith(b"5\r\nwent\n\r\n0\r\n\r\n")
    assert one.process.wait(timeout=20) == 0

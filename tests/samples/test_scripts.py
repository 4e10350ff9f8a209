"""The CGI samples, run as a server runs them: their output is a correct script response (RFC 3875 6)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import sample_apps

SCRIPTS = Path(sample_apps.__path__[0]) / "cgi-bin"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def run(program: Path, content: bytes = b"", **meta_variables: str) -> tuple[dict[str, str], str]:
    """Field lines and content of what the script answers."""
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": f"/cgi-bin/{program.name}",
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        **meta_variables,
    }
    done = subprocess.run([program], input=content, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    head, _, content = done.stdout.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\n"))
    return fields, content.decode()


@pytest.mark.parametrize("name", ["hello.sh", "hello.pl", "hello.py"])
def test_greeting_names_method_and_script(name: str) -> None:
    fields, text = run(SCRIPTS / name)
    assert fields == {"Content-Type": "text/plain; charset=utf-8"}
    assert text.startswith("Hello from ")
    assert text.endswith(f"GET /cgi-bin/{name}\n")


@needs_compiler
def test_c_program_greets_as_the_scripts_do(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", program, SCRIPTS / "hello.c"], check=True)
    assert run(program) == (
        {"Content-Type": "text/plain; charset=utf-8"},
        "Hello from C: GET /cgi-bin/hello\n",
    )


@needs_compiler
def test_c_program_survives_a_missing_meta_variable(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    subprocess.run(["cc", "-o", program, SCRIPTS / "hello.c"], check=True)
    done = subprocess.run([program], env={}, capture_output=True, check=True)
    assert done.stdout.endswith(b"Hello from C:  \n")


def test_shell_script_shows_the_path_below_it() -> None:
    assert run(SCRIPTS / "hello.sh", PATH_INFO="/a b")[1].endswith(", and below it /a b\n")


def test_environment_page_escapes_what_the_client_sent() -> None:
    fields, page = run(SCRIPTS / "env.py", HTTP_USER_AGENT="<script>alert('&')</script>")
    assert fields == {"Content-Type": "text/html; charset=utf-8"}
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in page
    assert "<script>" not in page


def test_environment_page_shows_octets_that_are_no_utf_8() -> None:
    # Nothing of the server's environment reaches a script, its locale included.
    _, page = run(SCRIPTS / "env.py", HTTP_X=os.fsdecode(b"caf\xe9"), HTTP_Y="café")
    assert "caf\\xe9" in page
    assert "<td>HTTP_Y<td>café" in page


def test_counter_writes_line_after_line() -> None:
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen([SCRIPTS / "counter.sh"], env=environment, stdout=subprocess.PIPE) as script:
        assert script.stdout is not None
        first = os.read(script.stdout.fileno(), 65536)
        while b"line 1 " not in first:
            first += os.read(script.stdout.fileno(), 65536)
        assert b"line 10 " not in first
        rest = script.stdout.read()
    assert (first + rest).count(b"\nline ") == 10


def test_application_runs_as_a_script() -> None:
    fields, text = run(SCRIPTS / "wsgi.py")
    assert fields["Status"] == "200 OK"
    assert text.endswith("reached over CGI.\n")


def test_application_as_a_script_reads_content() -> None:
    meta = {"PATH_INFO": "/echo", "REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5", "CONTENT_TYPE": "a/b"}
    _, text = run(SCRIPTS / "wsgi.py", b"12345 and what is not ours", **meta)
    assert '"bytes": 5' in text
    assert '"complete": true' in text


def form(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    out = b""
    for disposition, content in parts:
        head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        out += head.encode() + content + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def upload(content: bytes, content_type: str, length: int | None = None) -> tuple[dict[str, str], str]:
    return run(
        SCRIPTS / "upload.py",
        content,
        REQUEST_METHOD="POST",
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=str(len(content) if length is None else length),
    )


def test_upload_shows_name_size_and_digest_of_each_file() -> None:
    content = form("xyz", ('name="file"; filename="<a>.txt"', b"hello"), ('name="remark"', "schön".encode()))
    fields, page = upload(content, "multipart/form-data; boundary=xyz")
    assert "Status" not in fields
    assert "<td>file<td>&lt;a&gt;.txt<td>5" in page
    assert "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" in page
    assert "<td>remark<td><td>6" in page


def test_upload_that_is_cut_off_is_refused() -> None:
    content = form("xyz", ('name="file"', b"hello"))[:-8]
    fields, text = upload(content, "multipart/form-data; boundary=xyz")
    assert fields["Status"] == "400 Bad Request"
    assert "ends before its last boundary" in text


def test_upload_reads_no_more_than_its_length() -> None:
    content = form("xyz", ('name="file"', b"hello"))
    fields, _ = upload(content, "multipart/form-data; boundary=xyz", length=len(content) - 8)
    assert fields["Status"] == "400 Bad Request"


def test_upload_of_another_type_is_refused() -> None:
    fields, _ = upload(b"a=b", "application/x-www-form-urlencoded")
    assert fields["Status"] == "400 Bad Request"


def test_upload_by_get_names_the_method_that_is_allowed() -> None:
    fields, _ = run(SCRIPTS / "upload.py")
    assert fields["Status"] == "405 Method Not Allowed"
    assert fields["Allow"] == "POST"

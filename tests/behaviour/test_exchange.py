"""What a client sees of one request, over every interface and both tokenisers."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import requests

GATEWAY_ONLY = ("cgi", "fastcgi", "scgi")


def head_and_content(octets: bytes) -> tuple[bytes, bytes]:
    head, _, content = octets.partition(b"\r\n\r\n")
    return head, content


def read_response(sock: socket.socket, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return response, response.read()


def test_hello(served: Any, interface: str) -> None:
    response = served.get(interface, "/hello")
    assert (response.status_code, response.content) == (200, b"hello")
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Date"].endswith("GMT")
    assert response.headers["Server"] == "gateway-suite"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_content_goes_there_and_back(served: Any, interface: str, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    response = requests.post(served.url + served.path(interface, "/echo"), data=content, timeout=20)
    assert (response.status_code, response.content) == (200, content)


def test_chunked_content_arrives_with_its_length(served: Any, interface: str) -> None:
    pieces = (b"x" * 1000 for _ in range(100))
    response = requests.post(served.url + served.path(interface, "/length"), data=pieces, timeout=20)
    assert response.content == b"100000"


def test_keep_alive(served: Any, interface: str) -> None:
    with served.gateway.socket() as sock:
        for _ in range(5):
            sock.sendall(f"GET {served.path(interface, '/hello')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response, content = read_response(sock)
            assert (response.status, content) == (200, b"hello")


def test_pipelined_requests_are_answered_in_order(served: Any, interface: str) -> None:
    codes = [200, 201, 202, 203, 206]
    requests_ = [f"GET {served.path(interface, f'/status?code={code}')} HTTP/1.1\r\nHost: x\r\n" for code in codes]
    requests_[-1] += "Connection: close\r\n"
    octets = served.gateway.raw("".join(request + "\r\n" for request in requests_).encode())
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", octets)] == codes


def test_head(served: Any, interface: str) -> None:
    with served.gateway.socket() as sock:
        for _ in range(2):
            sock.sendall(f"HEAD {served.path(interface, '/head')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response, content = read_response(sock, "HEAD")
            assert (response.status, content, response.headers["Content-Length"]) == (200, b"", "5")


@pytest.mark.parametrize("code", [204, 304])
def test_no_content(served: Any, interface: str, code: int) -> None:
    with served.gateway.socket() as sock:
        for _ in range(2):
            sock.sendall(f"GET {served.path(interface, f'/status?code={code}')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response, content = read_response(sock)
            assert (response.status, content) == (code, b"")
            assert "Transfer-Encoding" not in response.headers


def test_http_1_0_gets_no_chunks_and_an_end(served: Any, interface: str) -> None:
    octets = served.gateway.raw(f"GET {served.path(interface, '/bytes?n=1000')} HTTP/1.0\r\n\r\n".encode())
    head, content = head_and_content(octets)
    assert b"chunked" not in head
    assert len(content) == 1000


def test_connection_close_is_honoured(served: Any, interface: str) -> None:
    octets = served.gateway.raw(
        f"GET {served.path(interface, '/hello')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert b"\r\nConnection: close\r\n" in octets
    assert octets.endswith(b"hello")


def test_continue_is_sent_when_the_content_is_wanted(served: Any, interface: str) -> None:
    with served.gateway.socket() as sock:
        sock.sendall(
            f"POST {served.path(interface, '/length')} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert read_response(sock)[1] == b"3"


def test_no_continue_before_an_early_final_answer(served: Any) -> None:
    octets = served.gateway.raw(
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    assert octets.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close" in octets


def test_other_expectations(served: Any) -> None:
    octets = served.gateway.raw(b"POST /h/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: tea\r\n\r\n")
    assert octets.startswith(b"HTTP/1.1 417 ")


def test_a_piece_reaches_the_client_at_once(served: Any, interface: str, tmp_path: Path) -> None:
    with served.gateway.socket() as sock:
        sock.sendall(f"GET {served.path(interface, f'/steps?n=2&dir={tmp_path}')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = http.client.HTTPResponse(sock)
        response.begin()
        for number in range(3):
            assert response.readline() == f"step{number}\n".encode()
            (tmp_path / f"go{number + 1}").touch()
        assert response.read() == b""


def test_several_cookies_stay_several(served: Any, interface: str) -> None:
    octets = served.gateway.raw(f"GET {served.path(interface, '/cookies')} HTTP/1.0\r\n\r\n".encode())
    assert octets.index(b"Set-Cookie: a=1\r\n") < octets.index(b"Set-Cookie: b=2\r\n")


def test_the_fields_that_a_worker_sees(served: Any, interface: str) -> None:
    fields = {"X-Plain": "1", "X_Under": "2", "Proxy": "evil", "Connection": "X-Named", "X-Named": "3", "TE": "gzip"}
    seen = json.loads(served.get(interface, "/env?a=b%20c", headers=fields).content)
    assert seen["HTTP_X_PLAIN"] == "1"
    assert seen["QUERY_STRING"] == "a=b%20c"
    for name in ("HTTP_PROXY", "HTTP_X_NAMED", "HTTP_CONNECTION", "HTTP_TE"):
        assert name not in seen
    if interface != "http":
        assert "HTTP_X_UNDER" not in seen


@pytest.mark.parametrize("interface", GATEWAY_ONLY)
def test_meta_variables(served: Any, interface: str) -> None:
    seen = json.loads(served.get(interface, "/env?x=1", headers={"Authorization": "Basic x"}).content)
    host, port = served.gateway.address
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": f"/{interface[0]}",
        "PATH_INFO": "/env", "QUERY_STRING": "x=1", "REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host, "SERVER_PORT": str(port), "REQUEST_URI": f"/{interface[0]}/env?x=1",
        "REQUEST_SCHEME": "http",
    }  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["SERVER_SOFTWARE"].startswith("gateway-suite/")
    assert not {"HTTPS", "HTTP_AUTHORIZATION", "CONTENT_TYPE", "AUTH_TYPE", "REMOTE_USER"} & set(seen)


def test_forwarding_fields(served: Any) -> None:
    seen = json.loads(
        served.get("http", "/env", headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}).content
    )
    host, port = served.gateway.address
    assert seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert seen["HTTP_X_FORWARDED_PROTO"] == "http"
    assert seen["HTTP_X_FORWARDED_HOST"] == f"{host}:{port}"
    assert seen["HTTP_FORWARDED"] == f'for=127.0.0.1;proto=http;host="{host}:{port}"'
    assert seen["HTTP_HOST"] == f"{host}:{port}"


@pytest.mark.parametrize("interface", GATEWAY_ONLY)
def test_hop_by_hop_fields_of_a_response_end_here(served: Any, interface: str) -> None:
    """The worker's own HTTP writer refuses to send them; test_fields.py covers `http`."""
    response = served.get(interface, "/hop")
    assert response.headers["X-Kept"] == "yes"
    assert "Keep-Alive" not in response.headers


@pytest.mark.parametrize("interface", GATEWAY_ONLY)
def test_client_redirect(served: Any, interface: str) -> None:
    response = served.get(interface, "/redirect", allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (302, "http://elsewhere.example/")


@pytest.mark.parametrize("interface", GATEWAY_ONLY)
def test_local_redirect(served: Any, interface: str) -> None:
    assert served.get(interface, "/local").content == b"hello"


@pytest.mark.parametrize("interface", GATEWAY_ONLY)
def test_a_local_redirect_in_a_circle(served: Any, interface: str) -> None:
    assert served.get(interface, "/loop").status_code == 500


def test_interim_responses_are_passed_on(served: Any) -> None:
    with served.gateway.socket() as sock:
        sock.sendall(b"GET /h/early-hints HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        octets = b""
        while piece := sock.recv(65536):
            octets += piece
    assert octets.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 404 ")


def test_trailers_are_passed_on_both_ways(served: Any) -> None:
    octets = served.gateway.raw(
        b"POST /h/trailers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"1\r\na\r\n0\r\nX-Mine: 2\r\n\r\n"
    )
    assert octets.endswith(b"\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_a_response_without_length_becomes_chunked(served: Any) -> None:
    response = served.get("http", "/close-delimited")
    assert response.content == b"until the end"
    assert response.headers["Transfer-Encoding"] == "chunked"


def test_an_answer_before_the_content_has_ended(served: Any) -> None:
    """CGI and SCGI stream where the client tells the length."""
    for interface in ("cgi", "scgi"):
        with served.gateway.socket() as sock:
            path = served.path(interface, "/early")
            sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome".encode())
            response, content = read_response(sock)
            assert (response.status, content) == (200, b"early")

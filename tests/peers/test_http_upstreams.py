"""nginx as an origin server, and a WebSocket through us with both ends of the `websockets` library."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import eventually, needs

CONFIG = """
daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
events {{ }}
http {{
  access_log off; default_type text/plain; client_body_temp_path {d}/t; proxy_temp_path {d}/t;
  fastcgi_temp_path {d}/t; scgi_temp_path {d}/t; uwsgi_temp_path {d}/t; client_max_body_size 100m;
  server {{
    listen unix:{d}/nginx.sock;
    root {d}/www;
    add_header X-Reused $connection_requests always;
    location /seen {{ return 200 "$http_x_forwarded_for|$http_forwarded|$http_host|$http_x_request_id"; }}
    location /moved {{ return 301 /elsewhere; }}
  }}
}}
"""


class Nginx:
    def __init__(self, directory: Path) -> None:
        (directory / "www").mkdir()
        (directory / "www" / "big").write_bytes(os.urandom(2_000_000))
        (directory / "www" / "small.txt").write_text("small")
        (directory / "nginx.conf").write_text(CONFIG.format(d=directory))
        self.directory = directory
        self.socket = directory / "nginx.sock"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [needs("nginx"), "-c", self.directory / "nginx.conf"], stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as sock:
                return self.socket.exists() and sock.connect_ex(str(self.socket)) == 0

        eventually(answers, "the start of nginx")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def nginx(directories: Any) -> Iterator[Nginx]:
    one = Nginx(directories("nginx"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def front(gateway: Any, nginx: Nginx) -> Any:
    return gateway(
        f'[[routes]]\npath = "/"\ninterface = "http"\naddress = "unix:{nginx.socket}"\n'
        f'[[routes]]\npath = "/app/"\ninterface = "http"\naddress = "unix:{nginx.socket}"\nstrip_prefix = true\n'
        'host = "inside.example"\n',
        server='trusted_proxies = ["127.0.0.2"]',
    )


def test_files_and_ranges_and_conditions(front: Any, nginx: Nginx) -> None:
    content = (nginx.directory / "www" / "big").read_bytes()
    whole = requests.get(front.url + "/big", timeout=20)
    assert whole.content == content
    part = requests.get(front.url + "/big", headers={"Range": "bytes=10-19"}, timeout=20)
    assert (part.status_code, part.content) == (206, content[10:20])
    same = requests.get(front.url + "/big", headers={"If-None-Match": whole.headers["ETag"]}, timeout=20)
    assert (same.status_code, same.content) == (304, b"")
    head = requests.head(front.url + "/big", timeout=20)
    assert (head.headers["Content-Length"], head.content) == ("2000000", b"")


def test_connections_are_used_again(front: Any) -> None:
    reused = [int(requests.get(front.url + "/small.txt", timeout=20).headers["X-Reused"]) for _ in range(5)]
    assert reused == list(range(reused[0], reused[0] + 5))


def test_prefix_and_host(front: Any) -> None:
    assert requests.get(front.url + "/app/small.txt", timeout=20).text == "small"
    assert requests.get(front.url + "/app/seen", timeout=20).text.split("|")[2] == "inside.example"


def ask(front: Any, source: str, fields: str = "") -> list[str]:
    with socket.create_connection(front.address, timeout=20, source_address=(source, 0)) as sock:
        sock.sendall(f"GET /seen HTTP/1.0\r\nHost: h\r\n{fields}\r\n".encode())
        octets = b""
        while piece := sock.recv(65536):
            octets += piece
    return octets.partition(b"\r\n\r\n")[2].decode().split("|")


def test_only_a_trusted_proxy_is_believed(front: Any) -> None:
    spoofed = ask(front, "127.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\n")
    assert spoofed[0] == "127.0.0.1"
    assert spoofed[1] == 'for=127.0.0.1;proto=http;host="h"'
    assert spoofed[3] != "mine"
    trusted = ask(front, "127.0.0.2", "X-Forwarded-For: 6.6.6.6\r\nX-Request-Id: mine\r\n")
    assert trusted[0] == "6.6.6.6, 127.0.0.2"
    assert trusted[1] == 'for=6.6.6.6, for=127.0.0.2;proto=http;host="h"'
    assert trusted[3] == "mine"


def test_a_restart_of_the_origin_server(gateway: Any, directories: Any) -> None:
    origin = Nginx(directories("again"))
    try:
        one = gateway(f'[[routes]]\npath = "/"\ninterface = "http"\naddress = "unix:{origin.socket}"\n')
        assert requests.get(one.url + "/small.txt", timeout=20).text == "small"
        origin.stop()
        origin.start()
        assert requests.get(one.url + "/small.txt", timeout=20).text == "small"
        origin.stop()
        assert requests.get(one.url + "/small.txt", timeout=20).status_code == 503
    finally:
        origin.stop()


def test_websocket(gateway: Any, tmp_path: Path) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import unix_serve

    async def talk() -> None:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        path = str(tmp_path / "ws.sock")
        async with unix_serve(echo, path, max_size=None):
            one = await asyncio.to_thread(
                gateway, f'[[routes]]\npath = "/ws"\ninterface = "http"\naddress = "unix:{path}"\n'
                f'[[routes]]\npath = "/no"\ninterface = "http"\naddress = "unix:{path}"\nwebsocket = false\n',
            )  # fmt: skip
            url = one.url.replace("http", "ws")
            async with connect(url + "/ws", max_size=None, proxy=None) as client:
                for message in ("text", b"\0" * 1_000_000, "again"):
                    await client.send(message)
                    assert await client.recv() == message
                await (await client.ping())
                await client.close(4000, "enough")
            assert client.close_code == 4000
            response = await asyncio.to_thread(
                requests.get, one.url + "/no", timeout=20,
                headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                         "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
            )  # fmt: skip
            assert response.status_code == 426

    asyncio.run(talk())

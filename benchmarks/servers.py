"""The servers that are compared: how each is configured for one core, started, and stopped.

Promise: each serves /http/, /fastcgi/ and /scgi/ from the one origin, and /cgi/ where it can, with
the best that its manual offers and nothing else: one worker, no access log, kept connections.
Must never know: how it is measured. Next: `measure.py`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

START_S = 15.0
GATEWAY = [sys.executable, "-P", "-m", "gateway"]  # -P: the one that is installed, not the one in this folder
MAXIMUM_KEPT = 65535  # requests on a connection: lighttpd's highest value


class CannotStart(Exception):
    """A server or the origin does not come up; the text holds what it said."""


@dataclass(frozen=True)
class Origin:
    """Where the origin listens: interface -> `port` on 127.0.0.1, or `path` if `over_unix`."""

    addresses: Mapping[str, Mapping[str, str | int]]
    over_unix: bool

    def nginx(self, interface: str) -> str:
        there = self.addresses[interface]
        return f"unix:{there['path']}" if self.over_unix else f"127.0.0.1:{there['port']}"

    gateway = nginx

    def lighttpd(self, interface: str) -> str:
        there = self.addresses[interface]
        if self.over_unix:
            return f'(( "host" => "{there["path"]}", "check-local" => "disable" ))'
        return f'(( "host" => "127.0.0.1", "port" => {there["port"]}, "check-local" => "disable" ))'


# RFC 3875 4.1, as each server passes them to its workers.
NGINX_PARAMS = """
    {0}_param QUERY_STRING $query_string;      {0}_param REQUEST_METHOD $request_method;
    {0}_param CONTENT_TYPE $content_type;      {0}_param CONTENT_LENGTH $content_length;
    {0}_param SCRIPT_NAME $fastcgi_script_name; {0}_param REQUEST_URI $request_uri;
    {0}_param DOCUMENT_URI $document_uri;      {0}_param DOCUMENT_ROOT $document_root;
    {0}_param SERVER_PROTOCOL $server_protocol; {0}_param REQUEST_SCHEME $scheme;
    {0}_param GATEWAY_INTERFACE CGI/1.1;       {0}_param SERVER_SOFTWARE nginx/$nginx_version;
    {0}_param REMOTE_ADDR $remote_addr;        {0}_param REMOTE_PORT $remote_port;
    {0}_param SERVER_ADDR $server_addr;        {0}_param SERVER_PORT $server_port;
    {0}_param SERVER_NAME $server_name;"""


def nginx(directory: Path, port: int, origin: Origin) -> list[str]:
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in (
        "client_body", "proxy", "fastcgi", "scgi", "uwsgi"))  # fmt: skip
    upstreams = "\n".join(
        f"upstream {name} {{ server {origin.nginx(name)}; {'' if name == 'scgi' else 'keepalive 64;'} }}"
        for name in ("http", "fastcgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(f"""
{user} worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests {MAXIMUM_KEPT}; {temporary} {upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=1024; server_name localhost; root {directory};
    location /http/ {{ proxy_pass http://http; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location /fastcgi/ {{ fastcgi_pass fastcgi; fastcgi_keep_conn on; {NGINX_PARAMS.format("fastcgi")} }}
    location /scgi/ {{ scgi_pass scgi; {NGINX_PARAMS.format("scgi")} }}
  }}
}}""")
    return ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"]


def lighttpd(directory: Path, port: int, origin: Origin) -> list[str]:
    config = directory / "lighttpd.conf"
    config.write_text(f"""
server.modules = ( "mod_proxy", "mod_fastcgi", "mod_scgi", "mod_cgi" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{directory.parent}"
server.max-keep-alive-requests = {MAXIMUM_KEPT}
server.listen-backlog = 1024
$HTTP["url"] =~ "^/http/" {{ proxy.server = ( "" => {origin.lighttpd("http")} ) }}
$HTTP["url"] =~ "^/fastcgi/" {{ fastcgi.server = ( "/fastcgi/" => {origin.lighttpd("fastcgi")} ) }}
$HTTP["url"] =~ "^/scgi/" {{ scgi.server = ( "/scgi/" => {origin.lighttpd("scgi")} ) }}
$HTTP["url"] =~ "^/cgi/" {{ cgi.assign = ( "" => "" ) }}
""")
    return ["lighttpd", "-D", "-f", str(config)]


def gateway(directory: Path, port: int, origin: Origin) -> list[str]:
    (directory.parent / "cgi").mkdir(exist_ok=True)  # it has the C program, where a compiler made one
    config = directory / "gateway.toml"
    routes = "\n".join(
        f'[[routes]]\npath = "/{name}/"\ninterface = "{name}"\naddress = "{origin.gateway(name)}"\n'
        for name in ("http", "fastcgi", "scgi")
    )
    config.write_text(f"""
[server]
listen = ["127.0.0.1:{port}"]
processes = 1
[log]
access = false
{routes}
[[routes]]
path = "/cgi/"
interface = "cgi"
root = "{directory.parent / "cgi"}"
""")
    return [*GATEWAY, "serve", str(config)]


SERVERS: dict[str, Callable[[Path, int, Origin], list[str]]] = {
    "gateway": gateway,
    "nginx": nginx,
    "lighttpd": lighttpd,
}
ON_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian's servers are not on a user's PATH


def version(name: str) -> str | None:
    """As the server says it; None if it is not installed."""
    if name == "gateway":
        command = [*GATEWAY, "--version"]
    elif shutil.which(name, path=ON_PATH) is None:
        return None
    else:
        command = [name, "-v"]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+(?: \(.*compiled.*\))?", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": ON_PATH}


class Running:
    """A started server; its standard error is kept in `log` until somebody asks why."""

    def __init__(self, command: list[str], core: int, log: Path, *, stdout: int | None = None) -> None:
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], env=environment(), stdout=stdout, stderr=errors
            )
        # taskset becomes the command, so the process id is the server's own.
        self.pid = self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "it said nothing"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def start(name: str, directory: Path, origin: Origin, core: int) -> tuple[Running, int]:
    """The server and its port, once it listens. Raises CannotStart."""
    home = directory / name
    home.mkdir()
    port = free_port()
    server = Running(SERVERS[name](home, port, origin), core, home / "stderr")
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, port
        except OSError:
            gone = server.process.poll() is not None
            if gone or time.monotonic() > until:
                server.stop()
                why = "ended at once" if gone else f"does not listen after {START_S:.0f} s"
                raise CannotStart(f"{name} {why}: {server.said()}") from None
            time.sleep(0.05)


def start_origin(directory: Path, core: int, *, over_unix: bool) -> tuple[Running, Origin]:
    command = [sys.executable, "-m", "benchmarks.origin", str(directory)]
    running = Running(command, core, directory / "origin.stderr", stdout=subprocess.PIPE)
    assert running.process.stdout is not None
    line = running.process.stdout.readline()
    if not line:
        running.stop()
        raise CannotStart(f"the origin ended at once: {running.said()}")
    return running, Origin(json.loads(line), over_unix)


CGI_PROGRAM = r"""
#include <stdio.h>
int main(void)
{
    return fputs("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!", stdout) < 0;
}
"""


def compile_cgi(directory: Path) -> None:
    """`directory`/cgi/small, a static program. Raises CannotStart."""
    source = directory / "small.c"
    source.write_text(CGI_PROGRAM)
    (directory / "cgi").mkdir()
    program = directory / "cgi" / "small"
    command = ["cc", "-O2", "-static", "-o", str(program), str(source)]
    try:
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotStart("there is no C compiler for the CGI program (Debian: gcc libc6-dev)") from None
    if built.returncode:
        raise CannotStart(f"the CGI program cannot be compiled: {built.stderr.strip()}")

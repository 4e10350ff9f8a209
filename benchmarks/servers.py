"""The web servers that are compared: how each is configured for one core, and the origin behind all of them.

Promise: each serves /http/, /fastcgi/ and /scgi/ from the one origin, and /static/ and /cgi/ where it can, with
the best that its manual offers and nothing else: one worker, no access log, kept connections.
Must never know: how it is measured. Next: `more_servers.py`, and `measure.py`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.origin import INTERFACES
from benchmarks.running import ON_PATH, PYTHON, CannotStart, Running, environment

GATEWAY = [*PYTHON, "gateway"]
MAXIMUM_KEPT = 65535  # requests on a connection: lighttpd's highest value
KEEP_S = 3600  # a connection that is idle is kept for as long as any run takes
UPSTREAMS_KEPT = 1024  # to the origin: one for each client, so that nobody connects anew in a run


@dataclass(frozen=True)
class Origin:
    """Where the origin listens: interface -> `port` on 127.0.0.1, or `path` if `over_unix`."""

    addresses: Mapping[str, Mapping[str, str | int]]
    over_unix: bool

    def nginx(self, interface: str) -> str:
        there = self.addresses[interface]
        return f"unix:{there['path']}" if self.over_unix else f"127.0.0.1:{there['port']}"

    gateway = nginx

    def haproxy(self, interface: str) -> str:
        there = self.addresses[interface]
        return f"unix@{there['path']}" if self.over_unix else f"127.0.0.1:{there['port']}"

    def caddy(self, interface: str) -> str:
        there = self.addresses[interface]
        return f"unix/{there['path']}" if self.over_unix else f"127.0.0.1:{there['port']}"

    def apache(self, interface: str) -> str:
        """As ProxyPass takes it, without a path. What follows `://` tells apart those on unix sockets."""
        there = self.addresses[interface]
        scheme = {"http": "http", "scgi": "scgi"}.get(interface, "fcgi")
        if self.over_unix:
            return f"unix:{there['path']}|{scheme}://{interface}"
        return f"{scheme}://127.0.0.1:{there['port']}"

    def h2o_url(self, interface: str) -> str:
        there = self.addresses[interface]
        return f"http://[unix:{there['path']}]" if self.over_unix else f"http://127.0.0.1:{there['port']}"

    def h2o_connect(self, interface: str) -> dict[str, str | int]:
        there = self.addresses[interface]
        if self.over_unix:
            return {"type": "unix", "port": there["path"]}
        return {"type": "tcp", "host": "127.0.0.1", "port": there["port"]}

    def lighttpd(self, interface: str) -> str:
        there = self.addresses[interface]
        if self.over_unix:
            return f'(( "host" => "{there["path"]}", "check-local" => "disable" ))'
        return f'(( "host" => "127.0.0.1", "port" => {there["port"]}, "check-local" => "disable" ))'


def start_origin(stack: contextlib.ExitStack, directory: Path, core: int, *, over_unix: bool) -> Origin:
    """Raises CannotStart."""
    command = [sys.executable, "-m", "benchmarks.origin", str(directory)]
    running = Running(command, (core,), directory / "origin.stderr", stdout=subprocess.PIPE)
    stack.callback(running.stop)
    assert running.process.stdout is not None
    with running.process.stdout as told:
        line = told.readline()
    if not line:
        raise CannotStart(f"the origin ended at once: {running.said()}")
    return Origin(json.loads(line), over_unix)


# RFC 3875 4.1, as each server passes them to its workers.
_NGINX_PARAMS = """
    {0}_param QUERY_STRING $query_string;      {0}_param REQUEST_METHOD $request_method;
    {0}_param CONTENT_TYPE $content_type;      {0}_param REQUEST_URI $request_uri;
    {0}_param SCRIPT_NAME {1};                 {2}
    {0}_param DOCUMENT_URI $document_uri;      {0}_param DOCUMENT_ROOT $document_root;
    {0}_param SERVER_PROTOCOL $server_protocol; {0}_param REQUEST_SCHEME $scheme;
    {0}_param GATEWAY_INTERFACE CGI/1.1;       {0}_param SERVER_SOFTWARE nginx/$nginx_version;
    {0}_param REMOTE_ADDR $remote_addr;        {0}_param REMOTE_PORT $remote_port;
    {0}_param SERVER_ADDR $server_addr;        {0}_param SERVER_PORT $server_port;
    {0}_param SERVER_NAME $server_name;"""


def nginx_params(protocol: str, script_name: str = "$fastcgi_script_name") -> str:
    """nginx puts the CONTENT_LENGTH of SCGI by itself."""
    last = "scgi_param SCGI 1;" if protocol == "scgi" else f"{protocol}_param CONTENT_LENGTH $content_length;"
    return _NGINX_PARAMS.format(protocol, script_name, last)


def nginx(
    directory: Path, port: int, *, origin: Origin, connections: int = 4096, static: Path | None = None
) -> list[str]:
    upstreams = "\n".join(
        f"upstream {name} {{ server {origin.nginx(name)}; {'' if name == 'scgi' else f'keepalive {UPSTREAMS_KEPT};'} }}"
        for name in INTERFACES
    )
    return nginx_with(directory, connections, f"""
  {upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=1024; server_name localhost; root {directory}; client_body_buffer_size 128k;
    location /http/ {{ proxy_pass http://http; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location /fastcgi/ {{ fastcgi_pass fastcgi; fastcgi_keep_conn on; {nginx_params("fastcgi")} }}
    location /multiplexed/ {{ fastcgi_pass multiplexed; fastcgi_keep_conn on; {nginx_params("fastcgi")} }}
    location /scgi/ {{ scgi_pass scgi; {nginx_params("scgi")} }}
    {f"sendfile on; tcp_nopush on; location /static/ {{ alias {static}/; }}" if static else ""}
  }}""")  # fmt: skip


def nginx_with(directory: Path, connections: int, http: str) -> list[str]:
    """nginx with one worker, and these directives in its http block."""
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in (
        "client_body", "proxy", "fastcgi", "scgi", "uwsgi"))  # fmt: skip
    config = directory / "nginx.conf"
    config.write_text(f"""
{user} worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests {MAXIMUM_KEPT}; keepalive_timeout {KEEP_S}s; {temporary}
  {http}
}}""")
    return ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"]


def lighttpd(directory: Path, port: int, *, origin: Origin, static: Path | None = None) -> list[str]:
    config = directory / "lighttpd.conf"
    config.write_text(f"""
server.modules = ( "mod_proxy", "mod_fastcgi", "mod_scgi", "mod_cgi", "mod_alias" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{directory.parent}"
server.max-keep-alive-requests = {MAXIMUM_KEPT}
server.listen-backlog = 1024
server.max-fds = 8192
server.max-connections = 4096
server.upload-dirs = ( "{directory}" )
{f'alias.url = ( "/static/" => "{static}/" )' if static else ""}
$HTTP["url"] =~ "^/http/" {{ proxy.server = ( "" => {origin.lighttpd("http")} ) }}
$HTTP["url"] =~ "^/fastcgi/" {{ fastcgi.server = ( "/fastcgi/" => {origin.lighttpd("fastcgi")} ) }}
$HTTP["url"] =~ "^/multiplexed/" {{ fastcgi.server = ( "/multiplexed/" => {origin.lighttpd("multiplexed")} ) }}
$HTTP["url"] =~ "^/scgi/" {{ scgi.server = ( "/scgi/" => {origin.lighttpd("scgi")} ) }}
$HTTP["url"] =~ "^/cgi/" {{ cgi.assign = ( "" => "" ) }}
""")
    return ["lighttpd", "-D", "-f", str(config)]


def gateway(
    directory: Path, port: int, *, origin: Origin, server: str = "processes = 1", cgi: Path | None = None,
    static: Path | None = None, connections: int = 10_000,
) -> list[str]:
    """`server`: further lines of its table, subtables of [server] included."""
    config = directory / "gateway.toml"
    routes = [
        f'[[routes]]\npath = "/{name}/"\ninterface = "{name if name != "multiplexed" else "fastcgi"}"\n'
        f'address = "{origin.gateway(name)}"\n' + ("" if name == "scgi" else f"keepalive = {UPSTREAMS_KEPT}\n")
        for name in INTERFACES
    ]
    for name, root in (("cgi", cgi), ("static", static)):
        if root is not None and root.is_dir():
            routes.append(f'[[routes]]\npath = "/{name}/"\ninterface = "{name}"\nroot = "{root}"\n')
    config.write_text(f"""
[log]
access = false
[server.timeouts]
idle = "{KEEP_S}s"
[server.limits]
connections = {connections}
[server]
listen = ["127.0.0.1:{port}"]
{server}
{"".join(routes)}""")
    return [*GATEWAY, "serve", str(config)]


# ---------------------------------------------------------------------- who is here


SAYS_VERSION = {
    "gateway": [*GATEWAY, "--version"],
    "nginx": ["nginx", "-v"],
    "lighttpd": ["lighttpd", "-v"],
    "apache": ["apache2", "-v"],
    "haproxy": ["haproxy", "-v"],
    "caddy": ["caddy", "version"],
    "h2o": ["h2o", "-v"],
}


def version(command: list[str]) -> str | None:
    """As the program says it; None if it is not installed."""
    if shutil.which(command[0], path=ON_PATH) is None:
        return None
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if said.returncode:
        return None
    found = re.search(r"\d+(?:\.\d+)+(?: \(.*compiled.*\))?", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def present(names: Iterable[str], console: Console) -> dict[str, str]:
    """Those that are installed, and their versions; the console is told who is left out."""
    versions = {name: version(SAYS_VERSION[name]) for name in names}
    for name, found in versions.items():
        if found is None:
            console.print(f"{name} is not installed and left out (.ci/install-peers installs it)")
    return {name: found for name, found in versions.items() if found is not None}


# ---------------------------------------------------------------------- a program for CGI


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

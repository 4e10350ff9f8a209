"""Further web servers that the gateway is compared with: Apache httpd, HAProxy, Caddy and h2o, as `servers.py` has others.

Promise: each serves what SERVED says from the one origin, with the best that its manual offers and nothing else: one
worker process on one core, no access log, kept connections.
Must never know: how it is measured. Next: `servers.py`, the origin and the other servers.
"""

from __future__ import annotations

import getpass
import json
import os
from glob import glob
from pathlib import Path

from benchmarks.origin import INTERFACES
from benchmarks.running import CannotStart
from benchmarks.servers import KEEP_S, UPSTREAMS_KEPT, Origin

MAXIMUM_CONNECTIONS = 8192
"""Those of clients and to the origin together."""
NOBODY = ("nobody", "nogroup")
"""Apache httpd does not serve as root."""


def apache(
    directory: Path, port: int, *, origin: Origin, cgi: Path | None = None, static: Path | None = None
) -> list[str]:
    """As many threads as there may be requests at once: a thread waits for the origin."""
    places = glob("/usr/lib*/apache2/modules") + glob("/usr/lib*/httpd/modules")
    if not places:
        raise CannotStart("the modules of Apache httpd are not where Debian or Fedora have them")
    modules = ("mpm_event", "authz_core", "alias", "env", "proxy", "proxy_http", "proxy_fcgi", "proxy_scgi", "cgid")
    passes = "\n".join(
        f'ProxyPass "/{name}/" "{origin.apache(name)}/{name}/" '
        + ("" if name == "scgi" else f"enablereuse=on max={UPSTREAMS_KEPT}")
        for name in INTERFACES
    )
    user, group = NOBODY
    config = directory / "apache.conf"
    # Apache distrusts the Content-Length of FastCGI, SCGI and CGI, and chunks, unless the last line says otherwise.
    config.write_text(f"""
{"".join(f"LoadModule {name}_module {places[0]}/mod_{name}.so" + chr(10) for name in modules)}
{f"User {user}" + chr(10) + f"Group {group}" if os.geteuid() == 0 else ""}
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ServerName localhost
Listen 127.0.0.1:{port}
ListenBacklog 1024
ErrorLog /dev/stderr
LogLevel crit
StartServers 1
ServerLimit 1
ThreadLimit {UPSTREAMS_KEPT}
ThreadsPerChild {UPSTREAMS_KEPT}
MaxRequestWorkers {UPSTREAMS_KEPT}
MinSpareThreads 1
MaxSpareThreads {UPSTREAMS_KEPT}
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout {KEEP_S}
EnableSendfile On
DocumentRoot {directory}
<Directory />
    AllowOverride None
    Options FollowSymLinks
</Directory>
{passes}
{f'Alias "/static/" "{static}/"' if static else ""}
{f'ScriptAlias "/cgi/" "{cgi}/"' if cgi is not None and cgi.is_dir() else ""}
ScriptSock {directory}/cgid.sock
SetEnv ap_trust_cgilike_cl 1
""")
    return ["apache2", "-d", str(directory), "-f", str(config), "-DFOREGROUND"]


def haproxy(directory: Path, port: int, *, origin: Origin) -> list[str]:
    """No SCGI, and no files.

    It could send many requests on a FastCGI connection (`mpxs-conns`), but 2.6 ends by itself where the responses are big,
    and answers 500 to some of 256 clients.
    """
    config = directory / "haproxy.cfg"
    config.write_text(f"""
global
    nbthread 1
    maxconn {MAXIMUM_CONNECTIONS}
defaults
    mode http
    timeout connect 5s
    timeout client {KEEP_S}s
    timeout server {KEEP_S}s
    http-reuse always
fcgi-app kept
    docroot {directory}
    option keep-conn
frontend clients
    bind 127.0.0.1:{port} backlog 1024
    use_backend http if {{ path_beg /http/ }}
    use_backend fastcgi if {{ path_beg /fastcgi/ }}
    use_backend multiplexed if {{ path_beg /multiplexed/ }}
backend http
    server origin {origin.haproxy("http")}
backend fastcgi
    use-fcgi-app kept
    server origin {origin.haproxy("fastcgi")} proto fcgi
backend multiplexed
    use-fcgi-app kept
    server origin {origin.haproxy("multiplexed")} proto fcgi
""")
    return ["haproxy", "-db", "-f", str(config)]


def caddy(directory: Path, port: int, *, origin: Origin, static: Path | None = None) -> list[str]:
    """Go takes as many threads as it may use cores. No SCGI; it keeps no connections to FastCGI."""
    files = f"handle_path /static/* {{\n root * {static}\n file_server\n }}" if static else ""
    config = directory / "Caddyfile"
    config.write_text(f"""
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    handle /http/* {{
        reverse_proxy {origin.caddy("http")} {{
            transport http {{
                versions 1.1
                compression off
                keepalive {KEEP_S}s
                keepalive_idle_conns_per_host {UPSTREAMS_KEPT}
            }}
        }}
    }}
    handle /fastcgi/* {{
        reverse_proxy {origin.caddy("fastcgi")} {{
            transport fastcgi
        }}
    }}
    handle /multiplexed/* {{
        reverse_proxy {origin.caddy("multiplexed")} {{
            transport fastcgi
        }}
    }}
    {files}
}}
""")
    # What it would keep in the home of whoever runs it.
    homes = [f"XDG_CONFIG_HOME={directory}", f"XDG_DATA_HOME={directory}"]
    return ["env", *homes, "caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


def h2o(directory: Path, port: int, *, origin: Origin, static: Path | None = None) -> list[str]:
    """No SCGI. Its config is YAML, so JSON will do."""
    kept_ms = KEEP_S * 1000
    paths: dict[str, dict[str, object]] = {
        "/http": {"proxy.reverse.url": origin.h2o_url("http") + "/http", "proxy.timeout.keepalive": kept_ms},
    }
    for name in ("fastcgi", "multiplexed"):
        paths[f"/{name}"] = {"fastcgi.connect": origin.h2o_connect(name), "fastcgi.timeout.keepalive": kept_ms}
    if static:
        paths["/static"] = {"file.dir": str(static)}
    config = directory / "h2o.conf"
    config.write_text(json.dumps({
        **({"user": getpass.getuser()} if os.geteuid() == 0 else {}),
        "num-threads": 1,
        "max-connections": MAXIMUM_CONNECTIONS,
        "listen": {"host": "127.0.0.1", "port": port},
        "hosts": {"default": {"paths": paths}},
    }))  # fmt: skip
    return ["h2o", "-m", "worker", "-c", str(config)]

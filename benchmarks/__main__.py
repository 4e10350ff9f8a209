"""`python -m benchmarks`: the gateway beside nginx and lighttpd.

Promise: servers are warmed up, then measured in rounds, in random order within each; leaves nothing
running. Exit code 0 if every cell has a result, 1 if one failed, 2 if nothing could start.
Must never know: a server's config. Next: `servers.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import measure, report, servers
from benchmarks.origin import BIG, SMALL

# case -> (bytes of content, connections). A script is a process: eight at once keep one core busy.
CASES = {
    "http/small": (len(SMALL), 32),
    "http/big": (len(BIG), 32),
    "fastcgi/small": (len(SMALL), 32),
    "fastcgi/big": (len(BIG), 32),
    "scgi/small": (len(SMALL), 32),
    "scgi/big": (len(BIG), 32),
    "cgi/small": (len(SMALL), 8),
}
WITHOUT_CGI = {"nginx"}
WARM_UP_S = 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The gateway beside its peers.")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server on each case (default 3)")
    parser.add_argument("--only", default="", metavar="CASES", help="cases or interfaces: http,fastcgi/small")
    parser.add_argument("--servers", default=",".join(servers.SERVERS), help="default: %(default)s")
    parser.add_argument("--unix", action="store_true", help="unix sockets to the origin instead of TCP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single result to FILE")
    chosen = parser.parse_args()
    if chosen.seconds < 1 or chosen.rounds < 1:
        parser.error("--seconds and --rounds must be 1 or more")
    wanted = [word for word in chosen.only.split(",") if word]
    chosen.cases = [case for case in CASES if not wanted or case in wanted or case.split("/")[0] in wanted]
    if not chosen.cases:
        parser.error(f"--only {chosen.only}: the cases are {', '.join(CASES)}")
    chosen.servers = chosen.servers.split(",")
    for name in chosen.servers:
        if name not in servers.SERVERS:
            parser.error(f"--servers {name}: the servers are {', '.join(servers.SERVERS)}")
    return chosen


def cores() -> tuple[int, int]:
    """The server's core, and that of the load and the origin."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[-1]


def run(chosen: argparse.Namespace, console: Console) -> report.Report:
    """The whole of it. Raises servers.CannotStart."""
    server_core, load_core = cores()
    if server_core == load_core:
        console.print("only one core: server, load and origin share it, the ratios will flatter the slow")
    versions = {name: servers.version(name) for name in chosen.servers}
    for name, version in versions.items():
        if version is None:
            console.print(f"{name} is not installed and left out (.ci/install-peers installs it)")
    present = {name: version for name, version in versions.items() if version is not None}

    with contextlib.ExitStack() as stack:
        # A server may run as root and read as somebody else, so the directory is open to all.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        directory.chmod(0o755)
        if any(case.startswith("cgi/") for case in chosen.cases):
            servers.compile_cgi(directory)
        origin_process, origin = servers.start_origin(directory, load_core, over_unix=chosen.unix)
        stack.callback(origin_process.stop)
        ports: dict[str, int] = {}
        pids: dict[str, int] = {}
        for name in present:
            server, ports[name] = servers.start(name, directory, origin, server_core)
            stack.callback(server.stop)
            pids[name] = server.pid

        cells = [
            report.Cell(name, case)
            for case in chosen.cases
            for name in present
            if not (case.startswith("cgi/") and name in WITHOUT_CGI)
        ]
        # Round 0 is the warm-up: it finds what does not work at all, and is not kept.
        for number in range(chosen.rounds + 1):
            for cell in random.sample(cells, len(cells)):
                if cell.failure:
                    continue
                expected_bytes, connections = CASES[cell.case]
                url = f"http://127.0.0.1:{ports[cell.server]}/{cell.case}"
                console.print(f"round {number} of {chosen.rounds}: {cell.server} {cell.case}", style="dim")
                try:
                    measure.check(url, expected_bytes)
                    result = measure.measure(
                        url,
                        pids[cell.server],
                        seconds=chosen.seconds if number else WARM_UP_S,
                        connections=connections,
                        core=load_core,
                    )
                except measure.Failed as failure:
                    cell.failure = str(failure)
                else:
                    if number:
                        cell.rounds.append(result)
    settings = {
        "seconds": chosen.seconds,
        "rounds": chosen.rounds,
        "unix": chosen.unix,
        "server_core": server_core,
        "load_core": load_core,
    }
    return report.Report(report.machine(), present, settings, cells)


def main() -> int:
    chosen = arguments()
    console = Console(stderr=True)
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            console.print(f"{tool} is missing (Debian: {package}; .ci/install-peers installs what is needed)")
            return 2
    try:
        results = run(chosen, console)
    except servers.CannotStart as error:
        console.print(str(error), style="red", markup=False)
        return 2
    report.show(results, Console())
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    return int(any(cell.failure for cell in results.cells))


if __name__ == "__main__":
    sys.exit(main())

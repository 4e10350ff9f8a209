"""`python -m benchmarks [PART ...]`: the gateway beside its peers, in ratios.

Promise: leaves nothing running. Exit code 0 if every cell has a result, 1 if one failed, 2 if nothing could start.
Must never know: what a part measures. Next: `peers.py`, `models.py`, `idle.py`, `apps.py`, `faults.py`: the parts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import apps, faults, idle, models, peers, report
from benchmarks.rounds import Plan
from benchmarks.running import CannotStart

PARTS = {part.NAME: part for part in (peers, models, idle, apps, faults)}
WIDTH = 110
"""Of tables that go into a file."""
EPILOG = "parts: " + "; ".join(f"{name}: {part.TITLE[0].lower() + part.TITLE[1:]}" for name, part in PARTS.items())


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The gateway beside its peers, in ratios.", epilog=EPILOG
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server on each case (default 3)")
    parser.add_argument("--only", default="", metavar="CASES", help="cases, or their beginnings: http,fastcgi/small")
    parser.add_argument("--servers", default="", metavar="NAMES", help="servers, or their beginnings: gateway,uwsgi")
    parser.add_argument("--idle", type=int, default=10_000, metavar="N", help="idle connections (default 10000)")
    parser.add_argument("--unix", action="store_true", help="unix sockets to the origin instead of TCP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single result to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")
    chosen = parser.parse_args(given)
    for number in (chosen.seconds, chosen.rounds, chosen.idle):
        if number < 1:
            parser.error("--seconds, --rounds and --idle must be 1 or more")
    for name in chosen.parts:
        if name not in PARTS:
            parser.error(f"there is no part {name}: {', '.join(PARTS)}")
    chosen.parts = chosen.parts or list(PARTS)
    chosen.only, chosen.servers = words(chosen.only), words(chosen.servers)
    named = [PARTS[name].names() for name in chosen.parts]
    known(parser, "--only", chosen.only, [case for cases, _ in named for case in cases], "/")
    known(parser, "--servers", chosen.servers, [server for _, servers in named for server in servers], "-")
    return chosen


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def known(parser: argparse.ArgumentParser, option: str, given: Sequence[str], names: Sequence[str], sign: str) -> None:
    """Each word has to choose something, or a misspelt one would leave out what was meant."""
    for word in given:
        if not any(name == word or name.startswith(word + sign) for name in names):
            parser.error(f"{option} {word}: there are {', '.join(dict.fromkeys(names))}")


def plan(chosen: argparse.Namespace, console: Console) -> Plan:
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) == 1:
        console.print("only one core: server, load and origin share it, the ratios will flatter the slow")
    return Plan(
        chosen.seconds, chosen.rounds, ours[0], ours[-1], console, chosen.only, chosen.servers, chosen.unix, chosen.idle
    )


def main() -> int:
    chosen = arguments()
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended on the way
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            console.print(f"{tool} is missing (Debian: {package}; .ci/install-peers installs what is needed)")
            return 2
    whole = report.Report(report.machine(), [])
    settings = plan(chosen, console)
    stopped = False
    for name in chosen.parts:
        cases, servers = PARTS[name].names()
        if not (any(map(settings.wants_case, cases)) and any(map(settings.wants_server, servers))):
            continue
        try:
            part = PARTS[name].run(settings)
        except CannotStart as error:
            console.print(f"{name}: {error}", style="red", markup=False)
            stopped = True
            continue
        whole.parts.append(part)
        out = Console()
        report.show(whole.machine, part, out if out.is_terminal else Console(width=WIDTH))
        # After each part: what has been measured is not lost with what comes next.
        if chosen.json:
            chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole)))
        if chosen.markdown:
            chosen.markdown.write_text(report.markdown(whole))
    if stopped:
        return 2
    return int(any(cell.failure for part in whole.parts for cell in part.cells))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)

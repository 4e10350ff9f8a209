"""What a route says of its workers beside where they are: how they are chosen, how their health is known.

Promise: keys that mean nothing beside each other are mistakes.
Must never know: pools, sockets. Next: `upstreams/terms.py`, what comes of it.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from typing import Any

from gateway import config_keys as keys
from gateway.config_tables import Tables
from gateway.ends import Address
from gateway.upstreams.terms import Check, Terms

USUAL_QUEUE = 1024
_USUAL_EVERY_S = 5.0


def is_named(address: Address) -> bool:
    """Whether it is a name, which may stand for anything."""
    if address.path:
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return True
    return False


def read_terms(
    tables: Tables, table: dict[str, Any], found: dict[str, Any], where: str, interface: str
) -> Terms:
    """Of a route whose keys are in `table`, and their values in `found`. Raises ConfigError."""
    asked = tables.table(table.get("health", {}), f"{where}.health")
    health = tables.values(asked, keys.ROUTE_HEALTH, f"{where}.health", ("interface", interface))
    if found["app"] is not None:
        for name in ("health", "slow_start"):
            if name in table:
                tables.wrong("the gateway looks after the workers of an app by itself", f"{where}.{name}", table[name],
                             "for routes with `address`")  # fmt: skip
    if found["hash"] is not None and found["balance"] != "hash":
        tables.wrong("means nothing without balance = \"hash\"", f"{where}.hash", found["hash"], 'balance = "hash"')
    workers: Sequence[tuple[Address, float, bool]] = found["address"]
    if workers and all(backup for _, _, backup in workers):
        tables.wrong("all are backups, for nobody", f"{where}.address", table["address"], "one at least without backup")
    return Terms(
        balance=found["balance"],
        hash=found["hash"] or ("client" if found["balance"] == "hash" else ""),
        weights=tuple(weight for _, weight, _ in workers),
        backups=tuple(backup for _, _, backup in workers),
        limit=math.inf if found["limit"] is None else float(found["limit"]),
        queue=USUAL_QUEUE if found["queue"] is None else found["queue"],
        slow_start_s=found["slow_start"],
        failures=health["failures"],
        pause_s=health["pause"],
        check=_check(tables, asked, health, f"{where}.health"),
    )


def _check(tables: Tables, asked: dict[str, Any], health: dict[str, Any], where: str) -> Check | None:
    """How workers are asked, if they are."""
    if not health["every"] and health["path"] is None:
        for name in ("timeout", "rise", "fall", "status"):
            if name in asked:
                tables.wrong("means nothing where workers are not asked", f"{where}.{name}", asked[name],
                             'with every = "5s", path = "/healthz", or both')  # fmt: skip
        return None
    if health["every"] == 0.0:
        tables.wrong("`path` is asked for again and again", f"{where}.every", asked["every"], 'a duration: "5s"')
    lowest, highest = health["status"]
    return Check(
        path=health["path"] or b"", every_s=health["every"] or _USUAL_EVERY_S, timeout_s=health["timeout"] or math.inf,
        rise=health["rise"], fall=health["fall"], lowest=lowest, highest=highest,
    )  # fmt: skip

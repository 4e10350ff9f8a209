"""Which of several workers gets a request.

Promise: pure choices. By load or in turn, each gets a part according to its weight; by hash, the same key always goes to
the same worker, whichever gateway is asked, and one that is lost moves only what was its own.
Must never know: connections, the clock. Next: `pool.py`, which says who may be chosen.

Turns by weight are those of nginx's smooth round-robin: in each, everybody's credit grows by its weight, and who has
most pays for all. A hash is a rendezvous: each worker draws a number for the key, and the highest of them wins; with
weights as in the draft of Mosko, -weight / ln(number).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from gateway.upstreams.member import Member

LEAST_SHARE: Final = 0.05
"""What one gets of its share that has come a moment ago."""
MOST_TURNS: Final = 256
_BITS: Final = 52
"""Of a number that is drawn: with half of one added it is still less than 1, as a float."""


def share(member: Member, now: float, slow_start_s: float) -> float:
    """Its weight, or the part of it that it has grown to."""
    age_s = now - member.since
    if age_s >= slow_start_s:
        return member.weight
    return member.weight * max(LEAST_SHARE, age_s / slow_start_s)


def in_turn(members: Sequence[Member], now: float, slow_start_s: float) -> Member:
    """The next one."""
    total = 0.0
    best = members[0]
    for member in members:
        part = share(member, now, slow_start_s)
        total += part
        member.credit += part
        if member.credit > best.credit:
            best = member
    best.credit -= total
    return best


def begin_anywhere(members: Sequence[Member]) -> None:
    """Where turns begin: else the first worker would get the first request of each engine, which is all that some get."""
    weights = sum([member.weight for member in members])
    for _ in range(random.randrange(max(1, min(MOST_TURNS, int(weights))))):
        in_turn(members, 0.0, 0.0)


def least(members: Sequence[Member], now: float, slow_start_s: float) -> Member:
    """The one with the fewest requests for its weight; equals are taken in turn."""
    fewest = math.inf
    equals: list[Member] = []
    for member in members:
        load = (member.open - len(member.idle)) / share(member, now, slow_start_s)
        if load < fewest:
            fewest = load
            equals = [member]
        elif load == fewest:
            equals.append(member)
    return equals[0] if len(equals) == 1 else in_turn(equals, now, slow_start_s)


def by_hash(members: Sequence[Member], key: bytes, now: float, slow_start_s: float) -> Member:
    """The one for this key."""
    highest = -math.inf
    best = members[0]
    for member in members:
        name = member.name.encode("utf-8", "surrogateescape")
        octets = blake2b(name + b"\0" + key, digest_size=8).digest()
        drawn = (int.from_bytes(octets, "big") >> (64 - _BITS)) + 0.5
        score = -share(member, now, slow_start_s) / math.log(drawn / (1 << _BITS))
        if score > highest:
            highest = score
            best = member
    return best

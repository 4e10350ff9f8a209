"""How well a worker is: by what becomes of requests, and by what it answers when it is asked.

Promise: one that fails is passed over for a time that grows, and one request finds out whether it is over; what fails
all at once counts once. Must never know: what was sent. Next: `pool.py`, which tells; `gateway/checks.py`, who asks.
"""

from __future__ import annotations

import random
from typing import Final

from gateway.upstreams.member import Member

MOST_PAUSE_S: Final = 60.0
JITTER: Final = 0.2
"""Pauses are so much longer or shorter, so that gateways do not come back all at once."""


def struck(member: Member, now: float, failures: int, pause_s: float) -> None:
    """A connection or a response has failed."""
    member.failures += 1
    if member.down_until > now and not member.trial:
        return  # it began before it was known
    member.strikes += 1
    if member.strikes < failures and not member.outs:
        return
    pause = min(MOST_PAUSE_S, pause_s * 2.0 ** min(member.outs, 16))
    member.outs += 1
    member.trial = False
    member.down_until = now + pause * (1.0 - JITTER + 2.0 * JITTER * random.random())


def tried(member: Member, now: float, trial_s: float) -> None:
    """One that was passed over gets a request: nobody else does before it is known what becomes of that."""
    member.trial = True
    member.down_until = now + trial_s


def answers(member: Member) -> None:
    """It takes requests; whether it does them well will be seen."""
    member.trial = False
    member.down_until = 0.0


def well(member: Member) -> None:
    """A response is complete."""
    member.strikes = member.outs = 0
    answers(member)


class Verdict:
    """What a worker is found to be that is asked again and again: it takes several answers to change it."""

    def __init__(self, rise: int, fall: int) -> None:
        self.rise = rise
        self.fall = fall
        self.up = True
        self._against = 0
        """Answers in a row that are not as the verdict."""
        self._known = False

    def heard(self, good: bool) -> bool:
        """Whether the verdict changes; the first answer of all is believed at once."""
        if good is self.up:
            self._against = 0
            self._known = True
            return False
        self._against += 1
        if self._known and self._against < (self.rise if good else self.fall):
            return False
        self.up, self._against, self._known = good, 0, True
        return True

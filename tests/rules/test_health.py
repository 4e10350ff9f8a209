"""How well a worker is: pauses that grow, one that finds out, and what it answers when it is asked."""

from __future__ import annotations

import math

import pytest

from gateway.ends import Address
from gateway.upstreams import health
from gateway.upstreams.health import JITTER, MOST_PAUSE_S, Verdict
from gateway.upstreams.member import Member


@pytest.fixture
def member() -> Member:
    return Member(Address("10.0.0.1", 9000), math.inf)


def test_pauses_grow_to_a_minute(member: Member) -> None:
    now = 100.0
    for pause in [1, 2, 4, 8, 16, 32, 60, 60]:
        health.struck(member, now, 1, 1.0)
        assert pause * (1 - JITTER) <= member.down_until - now <= pause * (1 + JITTER)
        now = member.down_until
        health.tried(member, now, 5.0)
    assert now < 100.0 + 3.2 * MOST_PAUSE_S + 63


def test_what_fails_all_at_once_counts_once(member: Member) -> None:
    for _ in range(100):
        health.struck(member, 100.0, 1, 1.0)
    assert member.down_until < 102.0
    assert member.outs == 1


def test_several_failures_may_be_asked_for(member: Member) -> None:
    for _ in range(2):
        health.struck(member, 100.0, 3, 1.0)
        assert member.down_until == 0.0
    health.well(member)
    for _ in range(3):
        assert member.down_until == 0.0
        health.struck(member, 100.0, 3, 1.0)
    assert member.down_until > 100.0


def test_once_it_was_out_one_failure_is_enough(member: Member) -> None:
    for _ in range(3):
        health.struck(member, 100.0, 3, 1.0)
    now = member.down_until
    health.tried(member, now, 5.0)
    health.struck(member, now, 3, 1.0)
    assert member.outs == 2
    assert member.down_until > now


def test_a_response_makes_it_as_new(member: Member) -> None:
    for _ in range(5):
        health.struck(member, 100.0, 1, 1.0)
        health.tried(member, 200.0, 5.0)
    health.well(member)
    assert (member.strikes, member.outs, member.down_until, member.trial) == (0, 0, 0.0, False)


def test_octets_let_others_in_and_the_next_pause_is_longer_all_the_same(member: Member) -> None:
    health.struck(member, 100.0, 1, 1.0)
    health.answers(member)
    assert member.down_until == 0.0
    health.struck(member, 100.0, 1, 1.0)
    assert member.down_until - 100.0 >= 2 * (1 - JITTER)


def test_a_verdict_needs_several_answers() -> None:
    verdict = Verdict(rise=2, fall=3)
    assert not verdict.heard(True)
    assert [verdict.heard(good) for good in (False, False, True, False, False, False)] == [False] * 5 + [True]
    assert not verdict.up
    assert [verdict.heard(good) for good in (True, False, True, True)] == [False, False, False, True]
    assert verdict.up


def test_the_first_answer_of_all_is_believed() -> None:
    verdict = Verdict(rise=2, fall=3)
    assert verdict.heard(False)
    assert not verdict.up

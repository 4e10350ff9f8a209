"""Which of several workers gets a request: by load, in turn, by a hash; shares by weight, and growing ones."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ends import Address
from gateway.upstreams.balance import LEAST_SHARE, begin_anywhere, by_hash, in_turn, least, share
from gateway.upstreams.member import Member


def members(*weights: float) -> list[Member]:
    return [Member(Address("10.0.0.1", 9000 + n), math.inf, weight) for n, weight in enumerate(weights)]


def test_in_turn_goes_smoothly_by_weight() -> None:
    """The example of nginx's commit 52327e0627f4."""
    a, b, c = given_ones = members(5, 1, 1)
    assert [in_turn(given_ones, 0.0, 0.0) for _ in range(7)] == [a, a, b, a, c, a, a]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 3))
def test_in_turn_each_gets_its_share_exactly(weights: list[int], rounds: int) -> None:
    given_ones = members(*weights)
    got = Counter(in_turn(given_ones, 0.0, 0.0).name for _ in range(sum(weights) * rounds))
    assert [got[member.name] for member in given_ones] == [weight * rounds for weight in weights]


def test_the_least_busy_for_its_weight() -> None:
    small, large = given_ones = members(1, 3)
    small.open, large.open = 1, 2
    assert least(given_ones, 0.0, 0.0) is large
    large.open = 4
    assert least(given_ones, 0.0, 0.0) is small


def test_equals_are_taken_in_turn_by_weight() -> None:
    given_ones = members(1, 3)
    assert Counter(least(given_ones, 0.0, 0.0).weight for _ in range(40)) == {1: 10, 3: 30}


def test_idle_connections_are_no_load() -> None:
    idle, busy = given_ones = members(1, 1)
    idle.open, busy.open = 3, 1
    idle.idle = [None, None, None]  # type: ignore[list-item]
    assert least(given_ones, 0.0, 0.0) is idle


def test_turns_begin_anywhere() -> None:
    """An engine that serves one connection only would always choose the first."""
    first: Counter[float] = Counter()
    for _ in range(400):
        given_ones = members(1, 3)
        begin_anywhere(given_ones)
        first[in_turn(given_ones, 0.0, 0.0).weight] += 1
    assert 40 < first[1] < 180


KEYS = [b"192.0.2.%d" % number for number in range(250)] + [b"session%d" % number for number in range(750)]


def test_a_key_always_goes_to_the_same() -> None:
    one, another = members(1, 1, 1), members(1, 1, 1)
    for key in KEYS:
        assert by_hash(one, key, 0.0, 0.0).name == by_hash(list(reversed(another)), key, 0.0, 0.0).name


def test_one_that_is_lost_moves_only_what_was_its_own() -> None:
    given_ones = members(1, 2, 1, 1)
    before = {key: by_hash(given_ones, key, 0.0, 0.0) for key in KEYS}
    lost = given_ones.pop(1)
    for key, member in before.items():
        if member is not lost:
            assert by_hash(given_ones, key, 0.0, 0.0) is member


def test_a_hash_spreads_by_weight() -> None:
    got = Counter(by_hash(members(1, 3), key, 0.0, 0.0).weight for key in KEYS)
    assert got[1] == pytest.approx(250, abs=60)


def test_a_share_grows() -> None:
    member = members(4)[0]
    assert share(member, 100.0, 10.0) == 4  # it always was there
    member.since = 100.0
    assert share(member, 100.0, 10.0) == 4 * LEAST_SHARE
    assert share(member, 105.0, 10.0) == pytest.approx(2)
    assert share(member, 110.0, 10.0) == 4
    assert share(member, 100.0, 0.0) == 4

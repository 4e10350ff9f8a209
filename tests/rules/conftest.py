"""The fixture `talk`: a conversation with a gateway, and at its end a look for what was left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rules.playbook import Talk

Talks = Callable[..., Talk]


@pytest.fixture
def talk() -> Iterator[Talks]:
    """Makes gateways; when the test is over everybody leaves, and nothing may remain."""
    made: list[Talk] = []

    def make(*routes: object, **options: object) -> Talk:
        made.append(Talk(*routes, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.all_leave()
        assert "defect" not in one.log.text

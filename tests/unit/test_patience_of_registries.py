"""How long a registry is asked again: longer while bytes move, but only at the pace that the user grants."""

from types import SimpleNamespace

import pytest

from mlcube.errors import Unreachable
from mlcube.registry import Limits
from mlcube.registry.patience import Passing, Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only passes where a test lets it."""
    now = [1000.0]
    monkeypatch.setattr("mlcube.registry.patience.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def attempts(clock: list[float], moved: int, seconds: float) -> int:
    """How many attempts there are, of a hundred, that each move so much in that time."""

    def pause(length: float) -> None:
        clock[0] += length

    patience = Patience(Limits(patience_seconds=60, pace_bytes=1024), "host", pause, lambda _text: None)
    for number in range(100):
        clock[0] += seconds
        try:
            patience.wait(Passing("it was cut"), "a blob", moved)
        except Unreachable:
            return number
    return 100


def test_what_moves_at_the_least_pace_is_continued_as_often_as_it_is_cut(clock: list[float]) -> None:
    assert attempts(clock, moved=2000, seconds=1.5) == 100
    assert attempts(clock, moved=10_000_000, seconds=3600) == 100


def test_what_moves_more_slowly_is_given_up_though_it_moves(clock: list[float]) -> None:
    assert attempts(clock, moved=2000, seconds=5) < 15
    assert attempts(clock, moved=0, seconds=0.1) < 15

"""Amounts that people write."""

import doctest
from collections.abc import Callable
from typing import Any

import pytest

from mlcube import amounts


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(amounts).failed == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", 1),
        (512, 512),
        ("1k", 1024),
        ("1kB", 1000),
        ("1 KiB", 1024),
        ("1.5GiB", 3 << 29),
        ("2tb", 2 * 10**12),
        ("5b", 5),
    ],
)
def test_sizes(text: str | int, found: int) -> None:
    assert amounts.size(text) == found


def test_engines_count_every_unit_by_1024() -> None:
    assert [amounts.size(text, engine=True) for text in ("1kb", "1m", "1gb")] == [1 << 10, 1 << 20, 1 << 30]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (90, 90),
        ("90", 90),
        ("1.5s", 1.5),
        ("2h30m", 9000),
        ("1d", 86400),
        ("01:30:00", 5400),
        ("1-00:00:01", 86401),
        ("2H", 7200),
    ],
)
def test_durations(text: str | int, found: float) -> None:
    assert amounts.duration(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (2, 2),
        ("all", "all"),
        ("none", 0),
        ("0", 0),
        ("", 0),
        ("0,2", ("0", "2")),
        ('"device=0,1"', ("0", "1")),
        ("device=3", ("3",)),
    ],
)
def test_gpus(text: str | int, found: object) -> None:
    assert amounts.gpus(text) == found


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (amounts.size, ["", "x", "-1", "0", "1XB", "1e3", "1 2", "9" * 400, "inf", "nan", "²", "1\n\n1"]),
        (amounts.duration, ["", "x", "-1", "0", "1w", "9" * 400, "1:2:3", "inf", "1h2", "٣"]),
        (amounts.gpus, ["x", "-1", "1.5", "²", "9" * 400, "device=", "0,,1", "a b", "device=0;id"]),
        (amounts.cpu_set, ["", "x", "1-", "-1", "0,,1", "0-3;id", "٣"]),
        (amounts.processors, ["", "0", "-1", "x", "inf", "nan", "9" * 400, "1_0"]),
    ],
)
def test_nonsense_is_refused_with_what_is_expected(read: Callable[[Any], Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"such as|a count|above zero"):
            read(text)

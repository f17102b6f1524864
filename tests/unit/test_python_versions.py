"""Version ranges, by the rules of PEP 440."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube.python_versions import MINORS, admits, lowest_admitted

versions = st.builds("3.{}.{}".format, st.sampled_from(MINORS), st.integers(0, 30))


@pytest.mark.parametrize(
    ("version_range", "admitted", "others"),
    [
        (">=3.10,<3.13", ["3.10.0", "3.12.9"], ["3.9.18", "3.13.0"]),
        (">= 3.10 , < 3.13", ["3.10.0"], ["3.13.0"]),
        ("~=3.11", ["3.11.0", "3.14.1"], ["3.10.9", "4.0"]),
        ("~=3.11.2", ["3.11.2", "3.11.9"], ["3.11.1", "3.12.0"]),
        ("3.11", ["3.11.0", "3.11.9"], ["3.10.9", "3.12.0"]),
        ("3", ["3.8.1", "3.14.0"], ["2.7.18"]),
        ("3.11.4", ["3.11.4"], ["3.11.5"]),
        ("==3.11.*", ["3.11.7"], ["3.12.0"]),
        ("==3.11", ["3.11.0", "3.11"], ["3.11.1"]),
        (">=3.9,!=3.10.*", ["3.9.1", "3.11.0"], ["3.10.4", "3.8.9"]),
        (">3.10,<=3.11", ["3.10.1", "3.11.0"], ["3.10.0", "3.11.1"]),
    ],
)
def test_a_range_admits_what_it_says(version_range: str, admitted: list[str], others: list[str]) -> None:
    assert [version for version in admitted + others if admits(version_range, version)] == admitted


@pytest.mark.parametrize(
    ("version_range", "lowest"),
    [
        (">=3.10", "3.10"),
        (">=3.10.5,<3.13", "3.10"),
        ("~=3.11", "3.11"),
        ("3.12", "3.12"),
        (">=3.9,!=3.9.*", "3.10"),
        ("<3.13", "3.8"),
        ("==3.11.4", "3.11.4"),
        (">=3.11,<3.11.5", "3.11.4"),
    ],
)
def test_the_lowest_admitted_version_is_a_tag_of_an_image(version_range: str, lowest: str) -> None:
    assert lowest_admitted(version_range) == lowest


@pytest.mark.parametrize(
    "text", ["", "^3.10", ">=3.10,", "three", ">=3.10.*", "~=3", "3.10 3.11", "==3.1.2.3", ">=3.x"]
)
def test_what_is_no_range_is_told_in_a_sentence_that_quotes_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"`.*`.*`.*3.1.*`"):
        admits(text, "3.11")


def test_a_range_that_admits_nothing_known_is_told() -> None:
    with pytest.raises(ValueError, match=r"`>=3.20` admits no Python from 3.8 to 3.14"):
        lowest_admitted(">=3.20")


@given(versions, versions)
def test_a_lower_bound_and_its_opposite_never_agree(bound: str, version: str) -> None:
    assert admits(f">={bound}", version) is not admits(f"<{bound}", version)
    assert admits(f"=={bound}", version) is not admits(f"!={bound}", version)


@given(st.text(alphabet="3.0123456789<>=!~*, ", max_size=16))
def test_any_text_is_a_range_or_a_value_error(text: str) -> None:
    try:
        lowest = lowest_admitted(text)
    except ValueError:
        return
    patches = [lowest, *(f"{lowest}.{patch}" for patch in (0, 50, 99))] if lowest.count(".") == 1 else [lowest]
    assert any(admits(text, version) for version in patches)

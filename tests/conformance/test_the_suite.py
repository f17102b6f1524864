"""The suite notices what is broken, and its results become a table."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from docs import capabilities
from mlcube.conformance.promises import PROMISES
from mlcube.conformance.results import Observation, Observations, verdict, verdicts
from tests.conformance.broken_runners import BROKEN

ROOT = Path(__file__).resolve().parents[2]
ASKED = (
    *("test_1_arguments_arrive", "test_2_nothing_of_the_host", "test_3_", "test_9_status", "test_13_nothing"),
    *("test_14_preparing", "test_15_what_is_asked", "test_15_where", "test_16_", "test_17_"),
)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observations:
    """What the suite finds out about runners that each break one promise."""
    place = tmp_path_factory.mktemp("observed")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={place}/tests"]
    argv += ["-p", "mlcube.conformance.plugin", f"--conformance-results={place}/results.json"]
    argv += ["-k", " or ".join(ASKED), "tests/conformance/broken_runners.py"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return msgspec.json.decode((place / "results.json").read_bytes(), type=Observations)


@pytest.mark.parametrize("name", [kind.__name__ for kind in BROKEN])
def test_the_suite_notices_the_promise_that_is_broken_and_no_other(observed: Observations, name: str) -> None:
    expected = next(promises for kind, promises in BROKEN.items() if kind.__name__ == name)
    found = verdicts(name, observed.observations)
    assert {each.promise for each in found if each.verdict == "broken"} == expected
    kept = {1, 2, 3, 9, 13, 14, 15, 16, 17} - expected
    assert {each.promise for each in found if each.verdict == "kept"} == kept


def observation(outcome: str, reason: str = "", test: str = "test_10_a") -> Observation:
    plain = {"subject": "jail", "promise": 10, "test": test, "outcome": outcome, "reason": reason}
    return msgspec.convert(plain, Observation)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([("kept", "")], "kept"),
        ([("refused", "no memory here"), ("refused", "no memory here")], "refused (no memory here)"),
        ([("kept", ""), ("refused", "no memory here")], "kept in part (no memory here)"),
        ([("refused", "no memory here"), ("broken", ""), ("kept", "")], "BROKEN (test_10_a)"),
        ([("excepted", "no container")], "excepted (no container)"),
        ([("not asked", "too large"), ("kept", "")], "kept"),
        ([("not asked", "too large")], "not asked"),
    ],
)
def test_a_verdict_follows_from_every_observation(outcomes: list[tuple[str, str]], expected: str) -> None:
    observations = [observation(*each) for each in outcomes]
    assert str(verdict("jail", 10, observations)) == expected


def test_the_page_says_what_was_observed_and_a_change_is_noticed() -> None:
    before = Observations(observations=(observation("refused", "no memory here"),))
    written = capabilities.read(capabilities.page(before))
    assert written["jail", 10] == "refused (no memory here)"
    assert capabilities.disagreements(written, before) == []
    after = Observations(observations=(observation("kept"),))
    assert capabilities.disagreements(written, after) == [
        "jail, promise 10: the page says refused (no memory here); observed: kept"
    ]


def test_the_page_of_the_promises_says_them_in_the_words_of_the_table() -> None:
    page = (ROOT / "docs/reference/conformance.md").read_text(encoding="utf-8")
    bold = {int(number): words for number, words in re.findall(r"^(\d+)\. \*\*(.*?)\*\*", page, flags=re.MULTILINE)}
    assert {number: words for number, words in bold.items() if number in PROMISES} == {
        number: words[0].upper() + words[1:] for number, words in PROMISES.items()
    }


def test_nothing_of_the_suite_is_imported_with_the_package() -> None:
    code = "import sys, mlcube.conformance; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

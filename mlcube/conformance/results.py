"""What the tests observed, as data, and the verdict on each promise that follows from it."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from mlcube.conformance.promises import PROMISES

__all__ = ["Observation", "Observations", "Verdict", "verdict", "verdicts"]

Outcome = Literal["kept", "refused", "excepted", "broken", "not asked"]


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one test found out about one runner."""

    subject: str
    promise: int
    test: str
    """Its name, without the subject's."""
    outcome: Outcome
    reason: str = ""


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the suite found out; the content of a file of results."""

    observations: tuple[Observation, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Whom something was asked, in the order of the asking."""
        return tuple(dict.fromkeys(each.subject for each in self.observations if each.outcome != "not asked"))


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one promise of one runner."""

    subject: str
    promise: int
    sentence: str
    verdict: Outcome
    """Broken if one test says so; else kept if one says so: the `reasons` then tell what is not."""
    reasons: tuple[str, ...] = ()
    """Why it is refused or excepted, wholly or in part; or the tests that failed."""

    def __str__(self) -> str:
        """As it stands in a table.

        >>> str(Verdict(subject="a", promise=1, sentence="", verdict="refused", reasons=("no limits here",)))
        'refused (no limits here)'
        """
        reasons = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        match self.verdict:
            case "broken":
                return f"BROKEN{reasons}"
            case "kept" if self.reasons:
                return f"kept in part{reasons}"
            case other:
                return f"{other}{reasons}"


def verdict(subject: str, promise: int, observations: Iterable[Observation]) -> Verdict:
    """What follows from everything that was observed of one promise of one runner."""
    mine = [each for each in observations if (each.subject, each.promise) == (subject, promise)]
    found = {each.outcome for each in mine}
    order: tuple[Outcome, ...] = ("broken", "kept", "refused", "excepted")
    worst: Outcome = next((outcome for outcome in order if outcome in found), "not asked")
    if worst == "broken":
        reasons = dict.fromkeys(each.test for each in mine if each.outcome == "broken")
    else:
        reasons = dict.fromkeys(each.reason for each in mine if each.outcome in ("refused", "excepted"))
    return Verdict(
        subject=subject, promise=promise, sentence=PROMISES[promise], verdict=worst, reasons=tuple(sorted(reasons))
    )


def verdicts(subject: str, observations: Sequence[Observation]) -> tuple[Verdict, ...]:
    """How it stands with every promise of one runner."""
    return tuple(verdict(subject, promise, observations) for promise in PROMISES)

"""What is told before a run: checks, each yes or no with its reason and what would mend it; how runners bring them."""

from typing import Literal, Protocol, runtime_checkable

import msgspec

from mlcube.invocation import Invocation
from mlcube.runner import Fact, Host

__all__ = ["Check", "Checking", "no", "not_asked", "yes"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    """What was looked at; each name has its paragraph in docs/how-to/look-before-you-run.md."""
    verdict: Literal["yes", "no", "not asked"]
    detail: str
    """Why, or what was found."""
    mend: str | None = None
    """What would make it a yes."""
    stops: int | None = None
    """The exit status with which a run would be refused for it; None: nothing is stopped by it."""
    at: str | None = None
    """The host that was asked; None: this one."""


@runtime_checkable
class Checking(Protocol):
    """What a runner has besides if it can say more beforehand than whether it is usable. All of it is pure."""

    def questions(self) -> tuple[Fact, ...]:
        """What is asked for that alone, besides `facts`, under names of its own."""
        ...

    def checks(self, host: Host) -> tuple[Check, ...]:
        """What the answers to `facts` and `questions` say, in the order in which a person would look.

        What `unusable` says must be told by one of them, with what it stops.
        """
        ...

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """Where the image would come from that is not there yet; each is parsed into a `Check`.

        One yes is enough. None at all: it is made there, or nobody can tell.
        """
        ...


def yes(name: str, detail: str) -> Check:
    """It is as it should be."""
    return Check(name=name, verdict="yes", detail=detail)


def no(name: str, detail: str, mend: str | None = None, *, stops: int | None = None) -> Check:
    """It is not."""
    return Check(name=name, verdict="no", detail=detail, mend=mend, stops=stops)


def not_asked(name: str, detail: str, mend: str | None = None) -> Check:
    """Nobody could be asked, or there was no point in it."""
    return Check(name=name, verdict="not asked", detail=detail, mend=mend)

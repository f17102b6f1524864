"""The runner that is held to the promises, and the hosts for which it must know what to do."""

from typing import Any

import msgspec

from mlcube.runner import Answer, Host, chain

__all__ = ["Subject"]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A runner with its options, under the name that a table of results gives it."""

    name: str
    runner: Any
    """A `Runner`."""
    capable: Host | None = None
    """Facts of a host that can do everything that the runner knows; None: what is found here."""
    poor: Host | None = None
    """Facts of a host where it cannot be used; None: of one that has none of the executables that are asked."""

    @property
    def executables(self) -> frozenset[str]:
        """What it drives, and what the runners in it drive."""
        return frozenset(name for runner in chain(self.runner) for name in runner.requires)

    @property
    def connecting_seconds(self) -> float:
        """What ending a task in order may take beyond the task's own time: each connection to a cluster costs, and more
        so on a machine that is busy with other tests."""
        return 20.0 if "kubectl" in self.executables else 0.0

    def poor_host(self) -> Host:
        """The host on which it cannot be used."""
        return self.poor if self.poor is not None else self.answered(Answer(127, "", "sh: 1: not found"))

    def answered(self, answer: Answer) -> Host:
        """A host where every question gets the same answer."""
        return {fact.name: fact.parse(answer) for fact in self.runner.facts()}

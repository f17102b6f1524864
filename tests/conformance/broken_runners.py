"""Runners that each break one promise, so that the suite can be seen to notice; `test_the_suite.py` runs it on them."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from mlcube.conformance import Subject
from mlcube.conformance.suite import *  # noqa: F403
from mlcube.cube import Resources
from mlcube.invocation import Invocation
from mlcube.plan import Command, Plan, Unless, command
from mlcube.runner import Fact, Host
from mlcube_runners.local import LocalRunner


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """What `local` does; the others do one thing otherwise."""

    requires: ClassVar[tuple[str, ...]] = ("python3",)
    inner: LocalRunner

    def facts(self) -> tuple[Fact, ...]:
        return self.inner.facts()

    def unusable(self, host: Host) -> tuple[str, str] | None:
        return self.inner.unusable(host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        return self.inner.refuses(invocation, host)

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        return self.inner.prepare(invocation, host)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        return self.inner.configure(invocation, host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        plan = self.inner.run(invocation, host)
        assert isinstance(plan.task, Command)
        return self.changed(plan, plan.task, invocation)

    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return plan

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        return self.inner.identify(invocation, host)


class JoinsWords(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return _with(plan, task, argv=("sh", "-c", " ".join(task.argv)))


class Inherits(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return _with(plan, task, clean=False)


class SharesTemporaryFiles(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return _with(plan, task, environment={**task.environment, "TMPDIR": os.path.dirname(invocation.workspace)})


class AlwaysSucceeds(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return _with(plan, task, argv=("sh", "-c", '"$@"; exit 0', "sh", *task.argv))


class Litters(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return msgspec.structs.replace(plan, steps=(*plan.steps, command("touch", f"{invocation.scratch}.litter")))


class PreparesAgain(Sound, frozen=True, kw_only=True):
    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        plan = self.inner.prepare(invocation, host)
        again = Unless(probe=command("false"), steps=(command("true"),), title="preparing")
        return msgspec.structs.replace(plan, steps=(*plan.steps, again))


class DropsLimits(Sound, frozen=True, kw_only=True):
    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        return self.inner.refuses(msgspec.structs.replace(invocation, resources=Resources()), host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        return self.inner.run(msgspec.structs.replace(invocation, resources=Resources()), host)


class RefusesWithoutRendering(Sound, frozen=True, kw_only=True):
    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        return ("no network here", "go elsewhere") if invocation.network else self.inner.refuses(invocation, host)


class IsAlwaysUsable(Sound, frozen=True, kw_only=True):
    def unusable(self, host: Host) -> tuple[str, str] | None:
        return None


class LooksAround(Sound, frozen=True, kw_only=True):
    def changed(self, plan: Plan, task: Command, invocation: Invocation) -> Plan:
        return _with(plan, task, environment={**task.environment, "HOST": Path("/etc/hostname").read_text()})


class TellsObjects(Sound, frozen=True, kw_only=True):
    def facts(self) -> tuple[Fact, ...]:
        return (*self.inner.facts(), Fact(name="set", argv=("true",), parse=lambda answer: {answer.status}))


class NamesNothing(Sound, frozen=True, kw_only=True):
    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        return None


BROKEN: dict[type[Sound], set[int]] = {
    Sound: set(),
    JoinsWords: {1},
    Inherits: {2},
    SharesTemporaryFiles: {3},
    AlwaysSucceeds: {9},
    Litters: {3, 13},
    PreparesAgain: {14},
    DropsLimits: {15},
    RefusesWithoutRendering: {15},
    IsAlwaysUsable: {15},
    LooksAround: {16},
    TellsObjects: {17},
    NamesNothing: {17},
}
"""Which promises each breaks, among those of the tests that are run."""


@pytest.fixture(params=BROKEN, ids=lambda kind: kind.__name__, scope="session")
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    environments = tmp_path_factory.getbasetemp() / "environments"
    environments.mkdir(exist_ok=True)
    inner: Any = LocalRunner(python=sys.executable, environments=str(environments))
    return Subject(name=request.param.__name__, runner=request.param(inner=inner))


def _with(plan: Plan, task: Command, **changes: Any) -> Plan:
    return msgspec.structs.replace(plan, task=msgspec.structs.replace(task, **changes))

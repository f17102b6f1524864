"""Runs another platform's tasks behind everybody else's work, as is polite on a machine that several people use."""

from typing import ClassVar

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Plan
from mlcube.runner import Fact, Host, Runner


class NiceRunner(msgspec.Struct, frozen=True, kw_only=True):
    requires: ClassVar[tuple[str, ...]] = ("nice",)
    inner: Runner
    niceness: int = 10

    def facts(self) -> tuple[Fact, ...]:
        nice = Fact(name="nice", argv=self._nice("true"), parse=lambda answer: answer.status == 0)
        return (nice, *self.inner.facts())

    def unusable(self, host: Host) -> tuple[str, str] | None:
        if not host["nice"]:
            return f"`nice -n {self.niceness}` does not work here", "install it: `apt install coreutils`"
        return self.inner.unusable(host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        if reason := self.inner.refuses(invocation, host):
            return reason
        plan = self.inner.run(invocation, host)
        if isinstance(plan.task, Command) and plan.stop is None:
            return None
        return "the task is no process of this one's, which alone can be made nice", "name another `inner`, as `local`"

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        return self.inner.prepare(invocation, host)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        return self.inner.configure(invocation, host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        plan = self.inner.run(invocation, host)
        assert isinstance(plan.task, Command)
        nice = msgspec.structs.replace(plan.task, argv=self._nice(*plan.task.argv))
        return msgspec.structs.replace(plan, task=nice)

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        return self.inner.identify(invocation, host)

    def _nice(self, *argv: str) -> tuple[str, ...]:
        return ("nice", "-n", str(self.niceness), *argv)

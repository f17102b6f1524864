"""Stops a task: asks it to end, waits, insists."""

import signal
import time
from collections.abc import Callable

from mlcube.child import Attended, Child, attend, kill
from mlcube.failures import CannotStart
from mlcube.plan import Command, Plan
from mlcube.signals import Signals

__all__ = ["GRACE_SECONDS", "SHORT_SECONDS", "Stopping"]

GRACE_SECONDS = 10.0
"""How long a task may take to end when it is asked to."""

SHORT_SECONDS = 2.0
"""How long an engine's client may take to end once its task has, or once it is told to."""


class Stopping:
    """Stops tasks by what their plans say; `start` starts a command whose output is nobody's."""

    __slots__ = ("_signals", "_start")

    def __init__(self, signals: Signals, start: Callable[[Command], Child]) -> None:
        self._signals = signals
        self._start = start

    def stop(self, plan: Plan, child: Attended, number: int) -> None:
        """Ask the task to end; insist after a grace, or at another signal."""
        child.impatient = True
        deadline = time.monotonic() + GRACE_SECONDS
        asked = "done"
        if plan.stop is None:
            child.signal(number)
        else:
            # The engine may itself wait as long before it insists.
            asked = self._beside(plan.stop, child, deadline + SHORT_SECONDS)
        if asked == "done":  # and not cut short by another signal
            attend(child, signals=self._signals, deadline=deadline)
        if asked == "failed" or not child.gone:
            self.end(plan, child, found=asked != "failed")

    def end(self, plan: Plan, child: Attended, *, found: bool = True) -> None:
        """End the task at once. If it was not found, its engine's client may still be about to start it."""
        child.impatient = True
        if plan.kill and found:
            self._beside(plan.kill, child, time.monotonic() + GRACE_SECONDS)
            attend(child, deadline=time.monotonic() + SHORT_SECONDS)
        if plan.kill and not child.gone:
            child.signal(signal.SIGTERM)
            attend(child, signals=self._signals, deadline=time.monotonic() + SHORT_SECONDS)
        if not child.gone:
            kill(child)
        if plan.kill and not found:
            # What the client asked for last may take effect after its end.
            for pause in (0.0, 1.0, 2.0):
                time.sleep(pause)
                self._beside(plan.kill, child, time.monotonic() + GRACE_SECONDS)

    def _beside(self, command: Command, child: Attended, deadline: float) -> str:
        """Perform a command while the child's output is carried on: `done`, `failed` or `late`; a signal ends it."""
        try:
            helper = self._start(command)
        except CannotStart:
            return "failed"
        try:
            reason = attend(child, signals=self._signals, deadline=deadline, beside=helper)
            if reason == "ended":
                reason = attend(helper, signals=self._signals, deadline=deadline)
        finally:
            if not helper.gone:
                kill(helper)
            helper.close()
        if reason in ("signal", "late"):
            return "late"
        return "failed" if helper.reap() else "done"

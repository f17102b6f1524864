"""Attends a task until it has ended: it is stopped by a signal, and at the end of its time."""

import signal
import time
from collections.abc import Callable, Sequence

from mlcube.child import Attended, attend
from mlcube.failures import late
from mlcube.patience import SILENT_SECONDS
from mlcube.plan import Plan
from mlcube.signals import Signals
from mlcube.stopping import Stopping
from mlcube.stream import Delivery

__all__ = ["attend_task"]


def attend_task(
    plan: Plan,
    child: Attended,
    deliveries: Sequence[Delivery],
    started: Callable[[], None],
    timeout_seconds: float | None,
    deadline: float | None,
    waiting: str | None,
    *,
    signals: Signals,
    stopping: Stopping,
    report: Callable[[str], None],
) -> int:
    """Its status. `waiting` is told if nothing is printed for a while; `deadline` ends a time that began before.

    Raises Interrupted or TimedOut once it has ended.
    """
    begun = time.monotonic()
    if deadline is None and timeout_seconds is not None:
        deadline = begun + timeout_seconds
    try:
        started()
        reason = "late"
        if waiting and (deadline is None or begun + SILENT_SECONDS < deadline):
            reason = attend(child, signals=signals, deadline=begun + SILENT_SECONDS)
            if reason == "late" and not any(delivery.carried for delivery in deliveries):
                report(f"waiting for {waiting}")
        if reason == "late":
            reason = attend(child, signals=signals, deadline=deadline)
        if reason != "ended":
            stopping.stop(plan, child, signals.received[-1] if reason == "signal" else signal.SIGTERM)
    finally:
        if not child.gone:  # only after an error of our own, or a process that nothing can end
            stopping.end(plan, child)
        # As in a container, nothing that the task left in the background outlives it.
        child.signal(signal.SIGKILL)
        child.close()
    for delivery in deliveries:
        if delivery.outlet and delivery.outlet.error:
            report(f"the task's output could not be shown: {delivery.outlet.error.strerror}")
    if reason == "signal":
        raise signals.interrupted()
    if reason == "late":
        raise late(timeout_seconds)
    return child.reap()

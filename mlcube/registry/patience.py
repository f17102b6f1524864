"""Asks again after a fault that may pass: pauses that double, said once, up to a limit."""

import time
from collections.abc import Callable

from mlcube.errors import CubeError, Unreachable
from mlcube.registry.limits import Limits

__all__ = ["Passing", "Patience"]

_LONGEST_PAUSE = 10.0


class Passing(Exception):
    """A fault that may pass. `after`: how many seconds the registry wants to be left alone; `slow`: it dribbles.

    `nobody`: no connection came about, as never before; the hint for who waited long enough for one.
    """

    def __init__(
        self, reason: str, after: float | None = None, *, slow: bool = False, nobody: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.after, self.slow, self.nobody = reason, after, slow, nobody


class Patience:
    """What is left of the patience with one transfer."""

    def __init__(
        self, limits: Limits, host: str, pause: Callable[[float], None], report: Callable[[str], None]
    ) -> None:
        self._limits, self._host, self._sleep, self._report = limits, host, pause, report
        self._asked = time.monotonic()
        self._renew()

    def _renew(self) -> None:
        self._since: float | None = None
        self._pause = self._limits.first_pause_seconds

    def wait(self, fault: Passing, what: str, moved: int = 0) -> None:
        """Pause before asking again. Raises Unreachable when the patience is at its end.

        If bytes were `moved` before the fault, at no less than the least pace, the patience is whole again.
        """
        now = time.monotonic()
        if moved > self._limits.pace_bytes * max(1.0, now - self._asked) and not fault.slow:
            self._renew()
        if self._since is None:
            self._since = now
        granted = self._limits.patience_seconds
        if fault.nobody is not None:
            granted = min(granted, self._limits.first_seconds)
        left = granted - (now - self._since)
        pause = min(self._pause, left) if fault.after is None else max(fault.after, self._pause)
        if left <= 0 or pause > left:
            raise self._given_up(fault, what)
        self._report(f"{fault.reason}; it is asked again for up to {granted:g} seconds")
        self._sleep(pause)
        self._asked = time.monotonic()
        self._pause = min(2 * self._pause, max(_LONGEST_PAUSE, self._pause))

    def _given_up(self, fault: Passing, what: str) -> CubeError:
        if fault.nobody is not None:
            return Unreachable(f"{what}: {fault.reason}", hint=fault.nobody)
        asks = f", and asks to be left alone for {fault.after:g} seconds" if fault.after else ""
        return Unreachable(
            f"{what}: {fault.reason}{asks}",
            hint=f"try again later; `{self._host}` was waited for as long as `CUBE_REGISTRY_PATIENCE` says:"
            f" {self._limits.patience_seconds:g} seconds",
        )

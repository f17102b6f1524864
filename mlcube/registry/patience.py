"""Asks again after a fault that may pass: pauses that double, said once, up to a limit."""

import time
from collections.abc import Callable

from mlcube.errors import CubeError, Unreachable
from mlcube.registry.limits import Limits
from mlcube.registry.parallel import check_stopped

__all__ = ["Passing", "Patience"]

_SLICE_SECONDS = 0.1


class Passing(Exception):
    """A fault that may pass. `after`: how many seconds the registry wants to be left alone."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class Patience:
    """What is left of the patience with one transfer."""

    def __init__(self, limits: Limits, host: str, check: Callable[[], None], report: Callable[[str], None]) -> None:
        self._limits, self._host, self._check, self._report = limits, host, check, report
        self.progressed()

    def progressed(self) -> None:
        """Something came of it: the patience is whole again."""
        self._since: float | None = None
        self._pause = self._limits.first_pause_seconds

    def wait(self, fault: Passing, what: str) -> None:
        """Pause before asking again. Raises Unreachable when the patience is at its end."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        pause = self._pause if fault.after is None else max(fault.after, self._pause)
        left = self._limits.patience_seconds - (now - self._since)
        if pause > left:
            raise self._given_up(fault, what)
        self._report(f"{fault.reason}; it is asked again for up to {self._limits.patience_seconds:g} seconds")
        self._sleep(pause)
        self._pause *= 2

    def _given_up(self, fault: Passing, what: str) -> CubeError:
        asks = f", and asks to be left alone for {fault.after:g} seconds" if fault.after else ""
        return Unreachable(
            f"{what}: {fault.reason}{asks}",
            hint=f"try again later; `{self._host}` was waited for as long as `CUBE_REGISTRY_PATIENCE` says:"
            f" {self._limits.patience_seconds:g} seconds",
        )

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._check()
            check_stopped()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _SLICE_SECONDS))

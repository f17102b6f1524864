"""One run at a time writes an output; the others wait, or are told who does."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from mlcube import directories, files, locks
from mlcube.errors import Busy, CubeError
from mlcube.record import settle

__all__ = ["holding"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A run that writes, or will write, to paths."""

    run: str
    task: str
    paths: tuple[str, ...]
    holder: locks.Holder


@contextmanager
def holding(
    run: str,
    task: str,
    paths: Sequence[str],
    *,
    wait_seconds: float | None = None,
    report: Callable[[str], None] = lambda _message: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the paths, so that no other run of this user writes there, below or above.

    Waits up to `wait_seconds` (None: not at all) for whoever writes there now. Raises Busy, which names the run.
    """
    folder = os.path.join(directories.state(), "holding")
    entry = _Entry(
        run=run, task=task, paths=tuple(os.path.realpath(path) for path in paths), holder=locks.this_process()
    )
    if not entry.paths:
        yield
        return
    deadline = time.monotonic() + (wait_seconds or 0.0)
    interval, announced = _FIRST_PAUSE, ""
    while conflict := _enter(folder, entry, pause):
        other, path = conflict
        who = f"run {other.run} (task `{other.task}`, {other.holder}), which writes `{path}`"
        if time.monotonic() >= deadline:
            raise Busy(f"these outputs are held by {who}", hint="wait for it with `--wait`, or write elsewhere")
        if announced != other.run:
            report(f"waiting for {who}")
            announced, interval = other.run, _FIRST_PAUSE
        pause(min(interval, max(0.0, deadline - time.monotonic())))
        interval = min(interval * 1.5, _LONGEST_PAUSE)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(_file(folder, run))


def _enter(folder: str, entry: _Entry, pause: Callable[[float], None]) -> tuple[_Entry, str] | None:
    """Note what the run will write; or give who writes there already, and where."""
    with locks.exclusive(os.path.join(folder, "lock"), wait_seconds=float("inf"), pause=pause):
        for other in _entries(folder):
            path = _shared(entry.paths, other.paths)
            if path is None:
                continue
            if locks.alive(other.holder):
                return other, path
            # Its container may still run, and write.
            with suppress(CubeError):
                settle(other.run)
            with suppress(FileNotFoundError):
                os.unlink(_file(folder, other.run))
        files.write(_file(folder, entry.run), msgspec.json.encode(entry), mode=0o600)
    return None


def _entries(folder: str) -> Iterator[_Entry]:
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with suppress(OSError, msgspec.MsgspecError):
                with open(os.path.join(folder, name), "rb") as file:
                    found = msgspec.json.decode(file.read(), type=_Entry)
                yield found


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """A path of theirs that is one of ours, or lies above or below one."""
    for mine in ours:
        for other in theirs:
            if mine == other or _above(mine, other) or _above(other, mine):
                return other
    return None


def _above(upper: str, lower: str) -> bool:
    return lower.startswith(upper.rstrip("/") + "/")


def _file(folder: str, run: str) -> str:
    return os.path.join(folder, f"{run}.json")

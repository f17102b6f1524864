"""One run at a time writes an output; the others wait, or are told who does."""

import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from mlcube import directories, files, locks, patience, watching
from mlcube.errors import Busy, CubeError
from mlcube.record import RunDirectory, settle

__all__ = ["holding"]

_NAME = ".cube"
"""Where a workspace says who writes in it; not there while nobody does."""


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
    workspace: str | None = None,
    wait_seconds: float | None = None,
    report: Callable[[str], None] = lambda _message: None,
    pause: watching.Pause = watching.doze,
) -> Iterator[None]:
    """Hold the paths, so that no other run writes there, below or above.

    It is noted in the user's state and, for other users and other state directories, in the `workspace` that holds
    any of the paths. Waits up to `wait_seconds` (None: not at all) for whoever writes there now. Raises Busy, which
    names the run.
    """
    entry = _Entry(
        run=run, task=task, paths=tuple(os.path.realpath(path) for path in paths), holder=locks.this_process()
    )
    if not entry.paths:
        yield
        return
    places = _places(entry, workspace)
    deadline = time.monotonic() + (wait_seconds or 0.0)
    interval, announced = watching.FIRST_PAUSE, ""
    try:
        while conflict := _enter_all(places, entry, pause):
            other, path, file = conflict
            who = f"run {other.run} (task `{other.task}`, {other.holder}), which writes `{path}`"
            if time.monotonic() >= deadline:
                hint = "wait for it with `--wait`, or write elsewhere"
                if other.holder.host != entry.holder.host:
                    hint += f"; if it does not run any more: rm {shlex.quote(file)}"
                raise Busy(f"these outputs are held by {who}", hint=hint)
            if announced != other.run:
                report(f"waiting for {who}")
                announced, interval = other.run, watching.FIRST_PAUSE
            lasts = RunDirectory(other.run).lasts()
            here = other.holder.pid if other.holder.host == entry.holder.host and not lasts else None
            with watching.passing(file, here) as events:
                if os.path.lexists(file) and (lasts or locks.alive(other.holder)):
                    pause(min(interval, max(0.0, deadline - time.monotonic())), *events)
            interval = watching.grown(interval)
        yield
    finally:
        _leave(places, run)


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """A folder where runs note what they write."""

    folder: str
    shared: bool = False
    """Others note there too: what it says is believed of whom to wait for, and of nothing else."""
    writable: bool = True


def _places(entry: _Entry, workspace: str | None) -> tuple[_Place, ...]:
    own = _Place(folder=os.path.join(directories.state(), "holding"))
    root = os.path.realpath(workspace) if workspace else None
    if root is None or not any(path == root or _above(root, path) for path in entry.paths):
        return (own,)
    folder = os.path.join(root, _NAME)
    if os.path.islink(folder):  # nobody of us makes one
        return (own,)
    nearest = folder
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
    return (own, _Place(folder=folder, shared=True, writable=writable))


def _enter_all(places: Sequence[_Place], entry: _Entry, pause: watching.Pause) -> tuple[_Entry, str, str] | None:
    """Note in every place what the run will write; or in none, and give who writes there already."""
    for place in places:
        if conflict := _enter(place, entry, pause):
            _leave(places, entry.run)
            return conflict
    return None


def _enter(place: _Place, entry: _Entry, pause: watching.Pause) -> tuple[_Entry, str, str] | None:
    """Note what the run will write; or give who writes there already, where, and the file that says so."""
    if not place.writable:
        return _conflict(place, entry)
    if place.shared and not os.path.isdir(place.folder):
        _make_shared(place.folder)
    with locks.exclusive(os.path.join(place.folder, "lock"), wait_seconds=patience.answer_seconds(), pause=pause):
        if conflict := _conflict(place, entry):
            return conflict
        file = os.path.join(place.folder, f"{entry.run}.json")
        files.write(file, msgspec.json.encode(entry), mode=0o644 if place.shared else 0o600)
    return None


def _make_shared(folder: str) -> None:
    """Whoever may write in the workspace may note it there."""
    workspace = os.path.dirname(folder)
    try:
        os.makedirs(workspace, exist_ok=True)
        os.mkdir(folder)
        with suppress(OSError):
            os.chmod(folder, stat.S_IMODE(os.stat(workspace).st_mode))
    except FileExistsError:
        pass
    except OSError as error:
        message = f"`{error.filename or folder}` cannot be made: {(error.strerror or str(error)).lower()}"
        raise CubeError(message, hint="--workspace DIR names a folder where you may write") from error


def _conflict(place: _Place, entry: _Entry) -> tuple[_Entry, str, str] | None:
    for file, other in _entries(place.folder):
        path = _shared(entry.paths, other.paths)
        if path is None or other.run == entry.run:
            continue
        if locks.alive(other.holder) or RunDirectory(other.run).lasts():
            return other, path, file
        # Its container may still run, and write.
        if not place.shared:
            with suppress(CubeError):
                settle(other.run)
        with suppress(OSError):
            os.unlink(file)
    return None


def _leave(places: Sequence[_Place], run: str) -> None:
    for place in places:
        with suppress(OSError):
            os.unlink(os.path.join(place.folder, f"{run}.json"))
        if place.shared:
            with suppress(OSError):  # another run notes there
                os.rmdir(place.folder)


def _entries(folder: str) -> Iterator[tuple[str, _Entry]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.endswith(".json"):
            file = os.path.join(folder, name)
            with suppress(OSError, msgspec.MsgspecError):
                yield file, msgspec.json.decode(files.read_small(file), type=_Entry)


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """A path of theirs that is one of ours, or lies above or below one."""
    for mine in ours:
        for other in theirs:
            if mine == other or _above(mine, other) or _above(other, mine):
                return other
    return None


def _above(upper: str, lower: str) -> bool:
    return lower.startswith(upper.rstrip("/") + "/")

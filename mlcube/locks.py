"""Locks between processes that work on network file systems too, and know when their holder is dead."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from mlcube import files, watching
from mlcube.errors import Busy, CubeError

__all__ = ["Holder", "alive", "boot", "exclusive", "holder_of", "this_process"]

_UNREADABLE_SECONDS = 10.0
"""A lock without a readable holder is being written, unless it is older than this: then its writer has died."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told apart from every other that ever had its number."""

    pid: int
    host: str
    boot: str
    start: int
    """When it started, in clock ticks since that boot."""
    token: str = ""
    """Tells apart the locks that one process takes."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    """The process that asks."""
    holder = holder_of(os.getpid())
    return holder or Holder(pid=os.getpid(), host=os.uname().nodename, boot=boot(), start=0)


def holder_of(pid: int) -> Holder | None:
    """A process of this machine; None when it has ended."""
    start = _start(pid)
    if start is None:
        return None
    return Holder(pid=pid, host=os.uname().nodename, boot=boot(), start=start)


def alive(holder: Holder) -> bool:
    """Whether the process still runs. One on another machine is taken to."""
    if holder.host != os.uname().nodename:
        return True
    if holder.boot != boot():
        return False
    start = _start(holder.pid)
    return start is not None and (start == 0 or holder.start in (start, 0))


@contextmanager
def exclusive(
    path: str,
    *,
    wait_seconds: float | None = None,
    waiting: Callable[[str], None] | None = None,
    pause: watching.Pause = watching.doze,
    target: str | None = None,
    hint: str | None = None,
) -> Iterator[None]:
    """Hold the lock `path`, a file that exists exactly as long as it is held.

    Waits up to `wait_seconds` (None: not at all) and says so once through `waiting`; `pause` is given the seconds and
    descriptors that are readable when it need not go on. `target` is what the lock is for: where no lock can be made,
    that is what cannot be written, and `hint` says what to do. Raises Busy, which names the holder. `flock` is not
    used: it does nothing on some Lustre and NFS mounts.
    """
    holder = msgspec.structs.replace(this_process(), token=os.urandom(8).hex())
    try:
        _acquire(path, holder, wait_seconds, waiting, pause)
    except _CannotMake as error:
        reason = (error.cause.strerror or str(error.cause)).lower()
        message = f"`{target}` cannot be written: {reason}" if target else f"{error} cannot be made: {reason}"
        raise CubeError(message, hint=hint) from error.cause
    try:
        yield
    finally:
        if (_read(path) or holder).token == holder.token:
            _remove(path)


class _CannotMake(Exception):
    """There can be no lock, because of `cause`; the text is what could not be made."""

    def __init__(self, what: str, cause: OSError) -> None:
        super().__init__(what)
        self.cause = cause


def _acquire(
    path: str,
    holder: Holder,
    wait_seconds: float | None,
    waiting: Callable[[str], None] | None,
    pause: watching.Pause,
) -> None:
    deadline = time.monotonic() + (wait_seconds or 0.0)
    interval, announced = watching.FIRST_PAUSE, False
    while not _create(path, holder):
        found = _read(path)
        if found is None:
            if _older(path, _UNREADABLE_SECONDS):
                _take_away(path, "unreadable", lambda: _read(path) is None and _older(path, _UNREADABLE_SECONDS))
                continue
        elif not alive(found):
            token = found.token
            _take_away(path, token, lambda token=token: (_read(path) or holder).token == token)  # type: ignore[misc]
            continue
        if time.monotonic() >= deadline:
            who = str(found) if found else "another process"
            raise Busy(f"`{path}` is held by {who}", hint=f"wait for it; if it does not run: rm {path}")
        if waiting and not announced:
            waiting(f"waiting for {found}" if found else "waiting for another process")
            announced = True
        here = found.pid if found and found.host == holder.host else None
        with watching.passing(path, here) as events:
            if os.path.lexists(path) and (found is None or alive(found)):
                pause(min(interval, max(0.0, deadline - time.monotonic())), *events)
        interval = watching.grown(interval)


def _create(path: str, holder: Holder) -> bool:
    """Whether the lock is now ours. A link to a finished file, so that nobody ever reads half a holder."""
    private = f"{path}.{holder.token}.new"
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _CannotMake(f"the folder `{folder}`", error) from error
    try:
        _write_new(private, msgspec.json.encode(holder))
        try:
            os.link(private, path)
        except FileExistsError:
            # A network file system may do the work and lose the answer: the count of links tells.
            return os.stat(private).st_nlink == 2
        except OSError:  # a file system without links
            try:
                _write_new(path, msgspec.json.encode(holder))
            except FileExistsError:
                return False
        return True
    except FileNotFoundError as error:
        if not os.path.isdir(os.path.dirname(path)):  # removed by whoever was the last to need it: once more
            return False
        raise _CannotMake(f"the lock `{path}`", error) from error
    except OSError as error:
        raise _CannotMake(f"the lock `{path}`", error) from error
    finally:
        _remove(private)


def _take_away(path: str, token: str, still_dead: Callable[[], bool]) -> None:
    """Remove the lock of a dead process, and no other.

    Between seeing that a lock is dead and removing it, somebody else may have done so and hold a new one. So whoever
    removes holds a lock of its own that is named after the dead one, and looks again.
    """
    with suppress(Busy), exclusive(f"{path}.{token}", wait_seconds=watching.FIRST_PAUSE):
        if still_dead():
            _remove(path)


def _read(path: str) -> Holder | None:
    try:
        return msgspec.json.decode(files.read_small(path), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_new(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _older(path: str, seconds: float) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > seconds
    except OSError:
        return False


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


@functools.cache
def boot() -> str:
    """Which boot of the machine this is."""
    try:
        return files.read("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it has ended, 0 where that cannot be known."""
    try:
        state, *fields = files.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except ProcessLookupError:
        return None
    except FileNotFoundError:
        return _exists(pid)  # no such process; or a system that does not show those of others
    return None if state in (b"Z", b"X") else int(fields[18])


def _exists(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0

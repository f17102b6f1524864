"""Runs in a terminal that can be left: one key, and they go on without it."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

from mlcube.cli import console
from mlcube.cli.outcome import outcome
from mlcube.record import RunDirectory

__all__ = ["can_be_left", "leavable"]

_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)


def can_be_left() -> bool:
    """Whether there is a terminal, and somebody before it who has keys."""
    return os.isatty(0) and os.isatty(2)


def leavable(perform: Callable[[Callable[[str], None]], int]) -> int:
    r"""Perform in a second process, which Ctrl-\ leaves to go on; gives its exit status.

    Keys reach both processes. `perform` is given what it tells the id of each run as it begins.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel may throw the status away
    try:
        process = os.fork()
        if process == 0:
            os.close(reading)
            os._exit(_performed(perform, writing, before))
        os.close(writing)
        return _watched(process, reading)
    finally:
        os.close(reading)
        signal.signal(signal.SIGCHLD, children)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _performed(perform: Callable[[Callable[[str], None]], int], writing: int, mask: Iterable[int]) -> int:
    runs: list[str] = []
    parent = os.getppid()

    def begun(run_id: str) -> None:
        runs.append(run_id)

    def leave(_number: int, _frame: object) -> None:
        if not runs or os.getsid(0) == os.getpid():
            return
        os.setsid()  # what happens to the terminal from here on concerns nobody
        kept = os.open(os.path.join(RunDirectory(runs[-1]).path, "notes"), _APPENDING, 0o600)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in map(int, os.listdir("/dev/fd")):  # where output is shown is open more than once
            if os.isatty(descriptor):
                os.dup2(kept if descriptor == 2 else nowhere, descriptor)
        os.close(kept)
        os.close(nowhere)
        with suppress(OSError):  # it may have been killed, and the run goes on
            os.write(writing, runs[-1].encode())
            os.kill(parent, signal.SIGCHLD)  # which waits for a signal

    try:
        signal.signal(signal.SIGQUIT, leave)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return outcome(lambda: perform(begun))
    except BaseException:  # noqa: BLE001 - nothing of the caller may be performed twice
        return 70
    finally:
        sys.stdout.flush()


def _watched(process: int, reading: int) -> int:
    """Until it has ended or was left. What was sent to this process alone is handed on."""
    while True:
        came = signal.sigtimedwait(_HEARD, 15.0)
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return _as_exit_status(status)
        try:
            left = os.read(reading, 64).decode()
        except BlockingIOError:
            left = ""
        if left:
            console.note(f"\nleft to go on: cube logs -f {left}, cube wait {left}, cube cancel {left}")
            return 0
        if came and came.si_pid and came.si_signo in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            os.kill(process, came.si_signo)  # keys come from the kernel, which is no process


def _as_exit_status(status: int) -> int:
    """As a shell tells it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code

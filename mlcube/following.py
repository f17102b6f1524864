"""Follows a job whose connection may fail: what was seen is not seen again, and the job is not lost."""

import time
from collections.abc import Callable

import msgspec

from mlcube import patience
from mlcube.errors import CubeError
from mlcube.plan import Command, Job

__all__ = ["follow"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_PATIENCE_SECONDS = 6 * 3600.0
"""How long to go on trying unless the user says otherwise: a night without a network is too long, a train journey is
not."""


def follow(
    job: Job,
    once: Callable[[Command], tuple[int, int, int]],
    told: Callable[[Command], str],
    pause: Callable[[float], None],
    report: Callable[[str], None],
    known: tuple[int, int] = (0, 0),
) -> int:
    """The status of a job that has been started, and of which so many bytes of output and of errors are known already.

    `once` performs the following command and gives its status and how many bytes of output and errors it carried;
    `told` gives what a command prints. Raises CubeError when the connection does not come back.
    """
    longest = patience.connection_seconds() or _PATIENCE_SECONDS
    seconds, lost_since = _FIRST_PAUSE, None
    while True:
        words = tuple(str(number) for number in known)
        status, *carried = once(msgspec.structs.replace(job.follow, argv=(*job.follow.argv, *words)))
        known = (known[0] + carried[0], known[1] + carried[1])
        if status not in job.lost:
            return status
        ended = told(job.status).strip()
        if ended == str(status) and not any(carried):
            return status  # the task's own status looks like that of a lost connection
        if ended:
            seconds, lost_since = _FIRST_PAUSE, None
            continue
        now = time.monotonic()
        if any(carried) or lost_since is None:
            seconds, lost_since = _FIRST_PAUSE, now
            report("the connection was lost; the task runs on, and is followed again as soon as it answers")
        if (left := lost_since + longest - now) <= 0:
            raise CubeError(
                f"the connection did not come back within {longest:g} s",
                hint=f"the task may still run: {job.status.script()}",
            )
        pause(min(seconds, left))
        seconds = min(seconds * 2, _LONGEST_PAUSE)

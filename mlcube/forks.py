"""Words of the command line, each performed in a process of its own that is forked off one which has imported all.

The caller's process may have threads, so it cannot be made two of; and a new interpreter for each of a hundred runs
would import for longer than it does anything else. `mlcube.cli.forking` is the other side.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlcube.errors import CubeError
from mlcube.runner import Answer

__all__ = ["close", "perform"]

_PIECE_BYTES = 1 << 16


def perform(words: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Answer:
    """What `cube` with these words says, in this process's directory and environment, and its exit status.

    `environment` is added; unlike words it is shown to nobody. An exception here, as of Ctrl-C, interrupts it.
    Raises CubeError when no process can be had.
    """
    try:
        directory = os.getcwd()
    except OSError as error:
        raise CubeError(f"the current directory is no more: {error.strerror}", hint="go to one that is there") from None
    request = {"words": list(words), "directory": directory, "environment": {**os.environ, **(environment or {})}}
    told = b""
    with _SOURCE.connection() as connection, suppress(ConnectionError):
        connection.sendall(json.dumps(request).encode() + b"\n")
        told = b"".join(iter(lambda: connection.recv(_PIECE_BYTES), b""))
    if not told:
        raise CubeError(f"the process that performs `cube {words[0]}` was killed")
    return Answer(*json.loads(told))


def close() -> None:
    """Let go of the process that all others are forked off, and wait for its end; the next request begins another."""
    _SOURCE.close()


class _Source:
    """The process that all others are forked off. It ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def connection(self) -> socket.socket:
        """To a new process."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise CubeError(f"no process can be started: {error.strerror or error}") from error
        with self._lock, theirs:
            for first in (True, False):
                try:
                    socket.send_fds(self._started(), [b"x"], [theirs.fileno()])
                except OSError as error:  # noqa: PERF203 - it was killed
                    self._owner = 0
                    if not first:
                        ours.close()
                        raise CubeError(f"no process can be started: {error.strerror or error}") from error
                else:
                    break
        return ours

    def close(self) -> None:
        """End the process, once those that were forked off it have ended."""
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None and self._owner == os.getpid():
                self._process.wait()
            self._process = None

    def _started(self) -> socket.socket:
        if self._control is not None and self._owner == os.getpid():
            return self._control
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == 0:
            self._process.wait()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "mlcube.cli.forking", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._owner = os.getpid()
        return self._control


_SOURCE = _Source()

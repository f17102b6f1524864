"""What becomes of a command: its exit status, and every error as a sentence."""

import os
import sys
from collections.abc import Callable

from mlcube.cli import console
from mlcube.errors import CubeError, Problem

__all__ = ["outcome"]


def outcome(perform: Callable[[], object]) -> int:
    """Perform a command and give the exit status of `cube`."""
    try:
        status = perform()
        sys.stdout.flush()
    except CubeError as error:
        return console.failure(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read our output has gone, as `head` does; nothing can be told, and Python must not try at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - the last place where an error can become a sentence
        return _bug(error)
    return status if isinstance(status, int) else 0


def _bug(error: Exception) -> int:
    if console.debugging():
        import traceback

        traceback.print_exc()
    console.problem(
        Problem(
            message=f"this is a bug in cube: {type(error).__name__}: {error}",
            hint="see where it happened with `CUBE_DEBUG=1`, and report it with the command that you gave",
        )
    )
    return 70

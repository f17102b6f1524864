"""What becomes of a command: its exit status, and every error as a sentence."""

from collections.abc import Callable

from mlcube.cli import console, streams
from mlcube.errors import CubeError

__all__ = ["outcome"]


def outcome(perform: Callable[[], object], *, as_json: bool = False) -> int:
    """Perform a command and give the exit status of `cube`; `as_json`: an error is a document too."""
    try:
        status = _performed(perform, as_json)
        if error := streams.unwritten():
            return status or console.failure(error)
    except KeyboardInterrupt:
        return 130
    return status


def _performed(perform: Callable[[], object], as_json: bool) -> int:
    try:
        status = perform()
    except CubeError as error:
        return _failed(error, as_json)
    except Exception as error:  # noqa: BLE001 - the last place where an error can become a sentence
        return _failed(_bug(error), as_json)
    return status if isinstance(status, int) else 0


def _failed(error: CubeError, as_json: bool) -> int:
    if as_json:
        console.document({"error": console.told(error)})
    return console.failure(error)


def _bug(error: Exception) -> CubeError:
    if console.debugging():
        console.trace(error)
    bug = CubeError(
        f"this is a bug in cube: {type(error).__name__}: {error}",
        hint="see where it happened with `CUBE_DEBUG=1`, and report it with the command that you gave",
    )
    bug.status = 70
    return bug

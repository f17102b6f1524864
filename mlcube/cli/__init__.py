"""The command line, `cube`."""

import os
import sys


def main() -> None:
    """Where `cube` and `mlcube` begin. Asking for the version imports nothing."""
    try:
        status = _begin(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    _leave(status)


def _leave(status: int) -> None:
    """End the process without taking it apart, which would be a tenth of the time of a short command."""
    import atexit

    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _begin(words: list[str]) -> int:
    closed = _opened()
    if words == ["--version"]:
        from mlcube import __version__

        try:
            if 1 not in closed:
                os.write(1, f"cube {__version__}\n".encode())
                return 0
        except OSError:
            pass  # said below, where errors are told
    import gc

    from mlcube.cli import interruption

    interruption.ends_at_once()  # first: an import of msgspec that was interrupted can end in a crash later on
    _import_msgspec()
    # What is imported lives as long as the process: to look through it for cycles, while it grows and once more at
    # the end, would be a quarter of the time of a short command.
    gc.set_threshold(100_000)
    try:
        return _start(words, closed)
    finally:
        gc.freeze()
        interruption.is_ignored()


def _import_msgspec() -> None:
    """Import it as where `typing_extensions` is not installed: it takes from there what `typing` has since Python 3.11,
    and that alone would be a tenth of the time of a short command."""
    name = "typing_extensions"
    if name in sys.modules or sys.version_info < (3, 11):
        return
    sys.modules[name] = None
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules[name]


def _opened() -> list[int]:
    """Open the null device as each standard stream that is closed; gives which were.

    Else the next file to be opened would take its number, and get what is meant for the user.
    """
    closed = []
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # noqa: PERF203 - each in turn
            closed.append(os.open(os.devnull, os.O_RDWR))  # the lowest number that is free: this one
    return closed


def _start(words: list[str], closed: list[int]) -> int:
    from mlcube.cli import direct, streams

    streams.guard(closed)
    if (status := direct.start(words)) is not None:
        return status
    from mlcube.cli.application import start

    return start(words)

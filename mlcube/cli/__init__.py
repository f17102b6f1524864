"""The command line, `cube`."""

import sys


def main() -> None:
    """Where `cube` and `mlcube` begin. Asking for the version imports nothing."""
    if sys.argv[1:] == ["--version"]:
        from mlcube import __version__

        sys.stdout.write(f"cube {__version__}\n")
        return
    import gc

    # What is imported lives as long as the process: to look through it for cycles, while it grows and once more at
    # the end, would be a quarter of the time of a short command.
    gc.set_threshold(100_000)
    try:
        sys.exit(_start(sys.argv[1:]))
    finally:
        gc.freeze()


def _start(words: list[str]) -> int:
    from mlcube.cli import direct

    if (status := direct.start(words)) is not None:
        return status
    from mlcube.cli.application import start

    return start(words)

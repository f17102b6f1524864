"""What processes hold of the machine's memory."""

import os
from contextlib import suppress

__all__ = ["held_by"]


def held_by(process: int) -> int:
    """The bytes that a process, and those that it has started, hold for themselves; 0 where the system does not tell.

    Files that they look at as if they were memory do not count: the system takes those pages back when it needs them.
    """
    held, found = 0, [process]
    while found:
        folder = f"/proc/{found.pop()}"
        with suppress(OSError, ValueError):  # it has ended meanwhile
            with open(f"{folder}/status", encoding="ascii", errors="replace") as file:
                held += sum(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))
            for thread in os.listdir(f"{folder}/task"):
                with open(f"{folder}/task/{thread}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
    return held

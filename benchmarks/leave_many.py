"""Leaves many runs and waits for all of them, so that whoever waits for this process learns what all of it took.

python benchmarks/leave_many.py COUNT CUBE WORD...
"""

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(count: int, cube: str, words: list[str]) -> int:
    """Processes in the background become children of this one, and are waited for as such."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        return 70
    for number in range(count):
        subprocess.run([cube, "run", "--detach", *words, f"out=out{number}/"], check=True)
    while True:
        try:
            _, status = os.wait()
        except ChildProcessError:
            return 0
        if status:
            return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))

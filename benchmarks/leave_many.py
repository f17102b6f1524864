"""Leaves many runs and waits for all of them, so that whoever waits for this process learns what all of it took.

python benchmarks/leave_many.py COUNT CUBE TASK PLATFORM
"""

import ctypes
import os
import sys

import mlcube

PR_SET_CHILD_SUBREAPER = 36


def main(count: int, folder: str, task: str, platform: str) -> int:
    """Processes in the background become children of this one, and are waited for as such."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        return 70
    cube = mlcube.load(folder)
    runs = [cube.leave(task, platform=platform, out=f"out{number}/") for number in range(count)]
    return max([mlcube.wait(run).status for run in runs])


def ended() -> None:
    """Everything that was left here has been waited for."""
    from mlcube import forks

    forks.close()
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


if __name__ == "__main__":
    status = main(int(sys.argv[1]), *sys.argv[2:5])
    ended()
    sys.exit(status)

"""Carries one invocation as `cube run` does, in a process of its own, so that it can be sent signals."""

import os

from mlcube.apart import lasting
from mlcube.errors import CubeError
from mlcube.execute import Execution
from mlcube.invocation import Invocation
from mlcube.runner import Host, Runner
from mlcube.running import plans
from mlcube.signals import catching

__all__ = ["carry"]


def carry(invocation: Invocation, runner: Runner, host: Host, lasts: bool = False) -> int:
    """Prepare and run; gives the exit status, and tells errors and what goes on.

    If it `lasts`, the task outlives this process, as one of `cube run --detach` does.
    """
    prepare, run = plans(invocation, runner, host)
    run = lasting(run, invocation) if lasts else run
    try:
        with catching() as signals, Execution(signals=signals, report=_tell) as execution:
            execution.prepare(prepare)
            return execution.run(run)
    except CubeError as error:
        _tell(str(error))
        return error.status


def _tell(message: str) -> None:
    os.write(2, f"{message}\n".encode())

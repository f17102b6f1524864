"""Carries one invocation, read from a file, as `cube run` does; a process of its own, so that it can be sent signals.

carry.py INVOCATION RUNNER HOST
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from mlcube.errors import CubeError
from mlcube.execute import Execution
from mlcube.invocation import Invocation
from mlcube.runner import Runner, find
from mlcube.running import plans
from mlcube.signals import catching


def made(name: str, options: dict[str, Any]) -> Runner:
    """The runner of that name, as `ssh(docker)`, with the options that it had."""
    outer, _, inner = name.partition("(")
    if not inner:
        return msgspec.convert(options, find(outer))
    return find(outer)(**{**options, "inner": made(inner[:-1], options["inner"])})


invocation = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Invocation)
runner = made(Path(sys.argv[2]).stem, msgspec.json.decode(Path(sys.argv[2]).read_bytes()))
host = msgspec.json.decode(Path(sys.argv[3]).read_bytes())
prepare, run = plans(invocation, runner, host)
try:
    with catching() as signals, Execution(signals=signals) as execution:
        execution.prepare(prepare)
        status = execution.run(run)
except CubeError as error:
    print(error, file=sys.stderr)
    status = error.status
sys.exit(status)

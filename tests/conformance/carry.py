"""Carries one invocation, read from a file, as `cube run` does; a process of its own, so that it can be sent signals.

carry.py INVOCATION RUNNER HOST
"""

import sys
from pathlib import Path

import msgspec

from mlcube.errors import CubeError
from mlcube.execute import Execution
from mlcube.invocation import Invocation
from mlcube.runner import find
from mlcube.running import plans
from mlcube.signals import catching

invocation = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Invocation)
runner = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=find(Path(sys.argv[2]).stem))
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

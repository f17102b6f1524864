"""Whenever a run is interrupted, its container is gone afterwards."""

import os
import signal
import subprocess
import threading
import time

import pytest

from mlcube.errors import Interrupted, TimedOut
from mlcube.execute import Execution
from mlcube.plan import Plan, command
from mlcube.signals import catching

pytestmark = pytest.mark.engine("docker")


def containers(name: str) -> str:
    listing = ["docker", "ps", "--all", "--quiet", "--filter", f"name={name}"]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout


def plan(image: str, name: str) -> Plan:
    remove = command("docker", "rm", "--force", name, quiet=True)
    return Plan(
        task=command("docker", "run", "--rm", "--init", "--name", name, image, "sleep", "600"),
        stop=command("docker", "stop", "--time", "2", name, quiet=True),
        kill=remove,
        always=(remove,),
    )


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.5])
def test_an_interrupt_at_any_moment_leaves_no_container(base_image: str, delay: float) -> None:
    name = f"mlcube-test-{os.getpid()}-{os.urandom(3).hex()}"

    def interrupt(_process: int | None) -> None:
        timer.start()

    with catching() as signals, Execution(signals=signals) as execution:
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        begun = time.monotonic()
        with pytest.raises(Interrupted):
            execution.run(plan(base_image, name), started=interrupt)
        timer.join()
    assert time.monotonic() - begun < 30
    time.sleep(1)  # what a client asked for last could still take effect
    while containers(name) and time.monotonic() - begun < 60:
        time.sleep(0.5)  # and does so later on a machine that is busy
    assert containers(name) == ""


def test_a_time_limit_stops_the_container(base_image: str) -> None:
    name = f"mlcube-test-{os.getpid()}-{os.urandom(3).hex()}"
    with catching() as signals, Execution(signals=signals) as execution, pytest.raises(TimedOut):
        execution.run(plan(base_image, name), timeout_seconds=1.5)
    assert containers(name) == ""

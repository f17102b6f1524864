"""Promises 9 to 14: status, limits, being stopped, and what is left."""

import os
import signal
import time

import pytest

from mlcube.cube import Resources
from mlcube.errors import PreparationFailed, Refused, TimedOut
from mlcube.invocation import Invocation
from tests.conformance.carrier import Carrier

PERFORMED = pytest.mark.parametrize("way", ["perform", "script"])


@PERFORMED
@pytest.mark.parametrize("status", [0, 1, 42, 137])
def test_9_status_is_the_tasks_own(carrier: Carrier, way: str, status: int) -> None:
    seen = carrier.performed(way, carrier.invocation(do=f"sys.exit({status})"))
    assert seen.status == status, seen


def test_9_a_signal_in_the_task_is_128_and_its_number(carrier: Carrier) -> None:
    seen = carrier.perform(carrier.invocation(do="import signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert seen.status == 137


@PERFORMED
def test_9_outputs_are_there_after_a_failure(carrier: Carrier, way: str) -> None:
    seen = carrier.performed(way, carrier.invocation(do="open(out + '/half', 'w').write('h'); sys.exit(3)"))
    assert seen.status == 3
    assert (carrier.out / "half").read_text() == "h"


def test_9_output_and_errors_stay_apart(carrier: Carrier) -> None:
    seen = carrier.perform(carrier.invocation(do="print('result'); print('progress', file=sys.stderr)"))
    assert seen.stdout == "result\n"
    assert "progress\n" in seen.stderr


def test_10_a_memory_limit_kills_and_is_told(carrier: Carrier) -> None:
    invocation = carrier.invocation(resources=Resources(memory_bytes=64 << 20), do="bytearray(400 << 20)")
    if carrier.runner.refuses(invocation, carrier.host):
        with pytest.raises(Refused):
            carrier.plans(invocation)
        return
    seen = carrier.perform(invocation)
    assert seen.status == 137
    assert "the task needed more memory than its limit, 64 MiB" in "\n".join(seen.told)
    assert "needed more memory than its limit" in carrier.script(invocation).stderr


def test_10_a_task_that_failed_of_itself_is_not_said_to_lack_memory(carrier: Carrier) -> None:
    invocation = carrier.invocation(resources=Resources(memory_bytes=256 << 20), do="sys.exit(137)")
    if carrier.runner.refuses(invocation, carrier.host) is None:
        seen = carrier.perform(invocation)
        assert (seen.status, seen.told) == (137, ())


def test_10_limits_of_processors_and_shared_memory_are_what_was_asked(carrier: Carrier) -> None:
    resources = Resources(cpus=0.5, cpu_set="0", shared_memory_bytes=32 << 20)
    do = "s = os.statvfs('/dev/shm'); print(s.f_frsize * s.f_blocks, len(os.sched_getaffinity(0)))"
    invocation = carrier.invocation(resources=resources, do=do)
    if carrier.runner.refuses(invocation, carrier.host):
        with pytest.raises(Refused):
            carrier.plans(invocation)
        return
    assert carrier.perform(invocation).stdout == f"{32 << 20} 1\n"


def test_11_a_time_limit_stops_the_task(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="import time; time.sleep(60)")
    with pytest.raises(TimedOut) as error:
        carrier.perform(invocation, timeout_seconds=1.5)
    assert error.value.status == 124
    assert carrier.remains(invocation) == []


def test_11_a_time_limit_stops_the_task_of_a_script(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="import time; time.sleep(60)")
    seen = carrier.script(invocation, timeout_seconds=2)
    assert (seen.status, "stopped after its time limit of 2 seconds" in seen.stderr) == (124, True)
    assert carrier.remains(invocation) == []


@PERFORMED
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_12_a_signal_stops_the_task_and_nothing_is_left(carrier: Carrier, way: str, number: signal.Signals) -> None:
    invocation = carrier.invocation(do="open(out + '/started', 'w'); import time; time.sleep(60)")
    begun = time.monotonic()
    assert stopped(carrier, invocation, number, way=way) == 128 + number
    assert time.monotonic() - begun < 15
    assert carrier.remains(invocation) == []


def test_12_a_second_signal_forces_a_task_that_will_not_end(carrier: Carrier) -> None:
    do = (
        "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15, 1)]; "
        "open(out + '/started', 'w'); time.sleep(60)"
    )
    invocation = carrier.invocation(do=do)
    begun = time.monotonic()
    assert stopped(carrier, invocation, signal.SIGINT, signal.SIGINT) == 130
    assert time.monotonic() - begun < 9, "the grace is 10 seconds; the second signal must cut it short"
    assert carrier.remains(invocation) == []


def test_12_a_signal_before_the_task_has_begun_leaves_nothing(carrier: Carrier) -> None:
    carrier.perform(carrier.invocation())
    for delay in (0.3, 0.5):
        invocation = carrier.invocation(do="import time; time.sleep(60)")
        process = carrier.start(invocation)
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (143, -signal.SIGTERM)
        left = carrier.remains(invocation)
        assert not [place for place in left if "/" not in place], left


def test_13_what_the_task_left_running_ends_with_it(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="import subprocess; subprocess.Popen(['sleep', '60'])")
    assert carrier.perform(invocation).status == 0
    time.sleep(0.2)
    assert carrier.remains(invocation) == []


def test_13_nothing_accumulates(carrier: Carrier) -> None:
    invocations = [carrier.invocation(do=f"sys.exit({status})") for status in (0, 1, 0)]
    for invocation in invocations:
        carrier.perform(invocation)
    assert [carrier.remains(invocation) for invocation in invocations] == [[], [], []]


def test_14_preparing_twice_does_nothing_the_second_time(carrier: Carrier) -> None:
    carrier.perform(carrier.invocation())
    seen = carrier.perform(carrier.invocation())
    assert (seen.status, seen.told, seen.stderr) == (0, (), "")


@pytest.mark.engine("docker")
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_14_an_image_that_cannot_be_had_is_said_with_what_to_do(carrier: Carrier) -> None:
    invocation = carrier.invocation(python=None, image="cube.invalid/none:1")
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(invocation)
    assert "`docker pull cube.invalid/none:1` failed" in str(error.value)
    assert error.value.hint == "check the name; if the registry is private, log in: `docker login REGISTRY`"


@pytest.mark.engine("docker")
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
@PERFORMED
def test_9_a_container_that_was_never_started_is_told_from_a_task_that_failed(carrier: Carrier, way: str) -> None:
    never = carrier.invocation(directory="relative")
    said = carrier.performed(way, never)
    assert (said.status, "the task did not run" in f"{said.told} {said.stderr}") == (125, True)
    said = carrier.performed(way, carrier.invocation(do="sys.exit(125)"))
    assert (said.status, "the task did not run" in f"{said.told} {said.stderr}") == (125, False)


def stopped(carrier: Carrier, invocation: Invocation, *numbers: signal.Signals, way: str = "perform") -> int:
    """Start it, wait until the task is at work, send the signals, and give the status."""
    process = (carrier.start_script if way == "script" else carrier.start)(invocation)
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{carrier.there(invocation).mounts[0].source}/started"):
        assert process.poll() is None, (carrier.place / "carried").read_text()
        assert time.monotonic() < deadline, (carrier.place / "carried").read_text()
        time.sleep(0.05)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.7)
    return process.wait(30)

"""Promises 9 to 11, 13 and 14: status, limits, what is left, and what is prepared."""

import time

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.outcomes import PERFORMED, unless_refused
from mlcube.cube import Resources
from mlcube.errors import PreparationFailed, TimedOut


@PERFORMED
@pytest.mark.parametrize("status", [0, 1, 42, 137])
def test_9_status_is_the_tasks_own(carrier: Carrier, way: str, status: int) -> None:
    seen = carrier.performed(way, carrier.invocation(do=f"sys.exit({status})"))
    assert seen.status == status, seen


@PERFORMED
def test_9_a_signal_in_the_task_is_128_and_its_number(carrier: Carrier, way: str) -> None:
    seen = carrier.performed(way, carrier.invocation(do="import signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert seen.status == 137, seen


@PERFORMED
def test_9_outputs_are_there_after_a_failure(carrier: Carrier, way: str) -> None:
    seen = carrier.performed(way, carrier.invocation(do="open(out + '/half', 'w').write('h'); sys.exit(3)"))
    assert seen.status == 3, seen
    assert (carrier.out / "half").read_text() == "h"


@PERFORMED
def test_9_output_and_errors_stay_apart(carrier: Carrier, way: str) -> None:
    do = "print('result'); print('progress', file=sys.stderr)"
    seen = carrier.performed(way, carrier.invocation(do=do))
    assert seen.stdout == "result\n"
    assert "progress\n" in seen.stderr


def test_10_a_memory_limit_kills_and_is_told(carrier: Carrier) -> None:
    invocation = carrier.invocation(resources=Resources(memory_bytes=64 << 20), do="bytearray(400 << 20)")
    seen = carrier.perform(unless_refused(carrier, invocation))
    assert seen.status == 137, seen
    assert "the task needed more memory than its limit, 64 MiB" in "\n".join(seen.told)
    assert "needed more memory than its limit" in carrier.script(invocation).stderr


def test_10_a_task_that_failed_of_itself_is_not_said_to_lack_memory(carrier: Carrier) -> None:
    invocation = carrier.invocation(resources=Resources(memory_bytes=256 << 20), do="sys.exit(137)")
    seen = carrier.perform(unless_refused(carrier, invocation))
    assert (seen.status, seen.told) == (137, ())


def test_10_certain_processors_are_the_ones_that_were_asked(carrier: Carrier) -> None:
    invocation = carrier.invocation(resources=Resources(cpu_set="0"), do="print(os.sched_getaffinity(0))")
    assert carrier.perform(unless_refused(carrier, invocation)).stdout == "{0}\n"


def test_10_a_share_of_the_processors_is_what_was_asked(carrier: Carrier) -> None:
    do = (
        "import time; begun = time.monotonic(); time.sleep(0.2)\n"
        "while time.process_time() < 1: pass\n"
        "print(time.monotonic() - begun)"
    )
    invocation = carrier.invocation(resources=Resources(cpus=0.25), do=do)
    seen = carrier.perform(unless_refused(carrier, invocation))
    assert float(seen.stdout) > 3, "a second of work takes four on a quarter of a processor"


def test_10_shared_memory_has_the_size_that_was_asked(carrier: Carrier) -> None:
    resources = Resources(shared_memory_bytes=96 << 20)
    do = "s = os.statvfs('/dev/shm'); print(s.f_frsize * s.f_blocks)"
    invocation = unless_refused(carrier, carrier.invocation(resources=resources, do=do))
    assert int(carrier.perform(invocation).stdout) >= 96 << 20


def test_11_a_time_limit_stops_the_task(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="import time; time.sleep(60)", resources=Resources(timeout_seconds=1.5))
    with pytest.raises(TimedOut) as error:
        carrier.perform(invocation, timeout_seconds=1.5)
    assert error.value.status == 124
    assert carrier.remains(invocation) == []


def test_11_a_time_limit_stops_the_task_of_a_script(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="import time; time.sleep(60)", resources=Resources(timeout_seconds=2))
    seen = carrier.script(invocation, timeout_seconds=2)
    assert (seen.status, "stopped after its time limit of 2 seconds" in seen.stderr) == (124, True), seen
    assert carrier.remains(invocation) == []


def test_11_a_task_that_ends_in_time_is_not_said_to_be_late(carrier: Carrier) -> None:
    invocation = carrier.invocation(do="print('in time')", resources=Resources(timeout_seconds=60))
    seen = carrier.perform(invocation, timeout_seconds=60)
    assert (seen.status, seen.stdout) == (0, "in time\n"), seen


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


def test_14_what_cannot_be_prepared_is_said_with_what_to_do(carrier: Carrier) -> None:
    invocation = carrier.invocation(python=None, image="cube.invalid/none:1", entrypoint=(), directory=None)
    if carrier.refusal(invocation):  # that it needs a container is said with what to do, too
        return
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(invocation)
    assert "cube.invalid" in str(error.value)
    assert error.value.hint
    assert carrier.remains(invocation) == []

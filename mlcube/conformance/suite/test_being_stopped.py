"""Promise 12: a signal stops the task at every stage, and nothing is left of it."""

import signal
import time

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.outcomes import PERFORMED, unless_refused
from mlcube.conformance.rendering import PROBE
from mlcube.cube import PythonEnvironment
from mlcube.stopping import GRACE_SECONDS

STARTED = "print('started', flush=True); "
UNREACHABLE = "nothing @ http://192.0.2.1/nothing-1-py3-none-any.whl\n"
"""A requirement on an address that no host may have: to install it takes many seconds, and then fails."""
MANY, EACH_BYTES = 200, 256 << 10


@PERFORMED
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_12_a_signal_stops_the_task_and_nothing_is_left(carrier: Carrier, way: str, number: signal.Signals) -> None:
    invocation = carrier.invocation(do=STARTED + "import time; time.sleep(60)")
    status, seconds = carrier.stopped(invocation, number, way=way)
    assert status == 128 + number
    assert seconds < GRACE_SECONDS + carrier.subject.connecting_seconds
    assert carrier.remains(invocation) == []


def test_12_what_was_written_before_a_signal_is_there(carrier: Carrier) -> None:
    invocation = carrier.invocation(
        do="open(out + '/half', 'w').write('h'); " + STARTED + "import time; time.sleep(60)"
    )
    assert carrier.stopped(invocation, signal.SIGTERM)[0] == 143
    assert (carrier.out / "half").read_text() == "h"


def test_12_a_task_that_ends_in_order_is_given_the_time(carrier: Carrier) -> None:
    do = (
        "import signal, time\n"
        "def end(*_): open(out + '/in-order', 'w').write('yes'); sys.exit(0)\n"
        "for number in (2, 15, 1): signal.signal(number, end)\n" + STARTED + "time.sleep(60)"
    )
    assert carrier.stopped(carrier.invocation(do=do), signal.SIGTERM)[0] == 143
    assert (carrier.out / "in-order").read_text() == "yes"


def test_12_a_second_signal_forces_a_task_that_will_not_end(carrier: Carrier) -> None:
    do = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15, 1)]; " + STARTED + "time.sleep(60)"
    invocation = carrier.invocation(do=do)
    status, seconds = carrier.stopped(invocation, signal.SIGINT, signal.SIGINT)
    assert status == 130
    limit = GRACE_SECONDS - 1 + carrier.subject.connecting_seconds
    assert seconds < limit, "the second signal must cut the grace short"
    assert carrier.remains(invocation) == []


@pytest.mark.parametrize("delay_seconds", [0.2, 0.4, 0.6, 0.9])
def test_12_a_signal_before_the_task_has_begun_leaves_nothing(carrier: Carrier, delay_seconds: float) -> None:
    carrier.perform(carrier.invocation())
    invocation = carrier.invocation(do="import time; time.sleep(60)")
    process = carrier.start(invocation)
    time.sleep(delay_seconds)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (143, -signal.SIGTERM)
    assert carrier.remains(invocation) == []


def test_12_a_signal_while_it_is_prepared_leaves_nothing(carrier: Carrier) -> None:
    python = PythonEnvironment(
        version=">=3.8", source=str(PROBE), image=carrier.image, requirements=f"# {time.time_ns()}\n{UNREACHABLE}"
    )
    invocation = unless_refused(carrier, carrier.invocation(python=python))
    process = carrier.start(invocation)
    carrier.await_word(process, "\n")  # the user is told what is being done
    time.sleep(1)
    assert process.poll() is None, (carrier.place / "carried").read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143, (carrier.place / "carried").read_text()
    assert carrier.remains(invocation) == []


def test_12_a_signal_while_outputs_come_back_loses_nothing(carrier: Carrier) -> None:
    do = (
        f"block = os.urandom({EACH_BYTES})\n"
        f"for n in range({MANY}):\n"
        "    with open(f'{out}/{n}', 'wb') as file: file.write(block)\n" + STARTED
    )
    invocation = carrier.invocation(do=do)
    process = carrier.start(invocation)
    carrier.await_word(process, "started")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, 143, -signal.SIGTERM), (carrier.place / "carried").read_text()
    assert carrier.remains(invocation) == []
    sizes = [(carrier.out / str(number)).stat().st_size for number in range(MANY)]
    assert sizes == [EACH_BYTES] * MANY

"""Promises 9 and 12 for a run whose own process was killed: nothing is lost, and nothing is run twice."""

import time

from mlcube.conformance.carrier import Carrier

BEGIN = "open(out + '/begun', 'a').write('x'); print('started', flush=True); import time; "


def test_9_a_task_outlives_the_process_that_began_it(carrier: Carrier) -> None:
    do = BEGIN + "time.sleep(4); open(out + '/end', 'w').write('e'); print('ended'); sys.exit(42)"
    invocation = carrier.invocation(do=do)
    carrier.killed(invocation)
    seen = carrier.taken_up(invocation)
    assert (seen.status, seen.stdout.split()) == (42, ["started", "ended"])
    assert (carrier.out / "begun").read_text() == "x", "it was run twice"
    assert (carrier.out / "end").read_text() == "e"
    assert carrier.remains(invocation) == []


def test_9_one_that_has_ended_meanwhile_is_not_run_again(carrier: Carrier) -> None:
    invocation = carrier.invocation(do=BEGIN + "time.sleep(1); open(out + '/end', 'w').write('e')")
    carrier.killed(invocation)
    time.sleep(3)
    assert carrier.taken_up(invocation).status == 0
    assert (carrier.out / "begun").read_text() == "x", "it was run twice"
    assert (carrier.out / "end").read_text() == "e"
    assert carrier.remains(invocation) == []


def test_12_one_that_outlives_its_process_can_be_ended(carrier: Carrier) -> None:
    invocation = carrier.invocation(do=BEGIN + "time.sleep(120)")
    carrier.killed(invocation)
    carrier.cancelled(invocation)
    assert (carrier.out / "begun").read_text() == "x"
    assert carrier.remains(invocation) == []

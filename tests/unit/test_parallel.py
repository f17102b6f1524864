"""Jobs beside each other: all results in order, or the first error, and nobody goes on after it."""

import functools
import threading
import time

import pytest

from mlcube.errors import CubeError, Interrupted
from mlcube.parallel import check_stopped, in_parallel, stopping


def test_jobs_give_their_results_in_order_and_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def job(number: int) -> int:
        meeting.wait()
        return number

    assert in_parallel([functools.partial(job, each) for each in range(6)], workers=3) == list(range(6))
    assert in_parallel([], workers=3) == []
    assert in_parallel([lambda: 5]) == [5]


def test_a_queue_keeps_no_other_waiting_and_whoever_has_done_his_helps() -> None:
    begun: list[str] = []
    met, all_help = threading.Barrier(2, timeout=10), threading.Barrier(4, timeout=10)

    def job(name: str, barrier: threading.Barrier) -> str:
        begun.append(name)
        barrier.wait()
        return name

    large = [functools.partial(job, f"large {each}", all_help) for each in range(4)]
    small = [functools.partial(job, f"small {each}", met) for each in range(10)]
    done = in_parallel(large, small, workers=2)
    assert done == [f"large {each}" for each in range(4)] + [f"small {each}" for each in range(10)]
    assert {"large 0", "large 1"} < set(begun[:4])
    assert set(begun[-2:]) == {"large 2", "large 3"}


def test_the_first_error_wins_and_no_further_job_begins() -> None:
    begun: list[int] = []

    def job(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise CubeError("the first")
        time.sleep(0.05)

    with pytest.raises(CubeError, match="the first"):
        in_parallel([functools.partial(job, each) for each in range(100)], workers=2)
    assert len(begun) < 5


def test_an_error_is_told_though_others_compute() -> None:
    begun = threading.Barrier(2, timeout=10)

    def compute() -> None:
        begun.wait()
        look = stopping(lambda: None)
        while True:
            look()
            time.sleep(0.001)

    def fail() -> None:
        begun.wait()
        raise CubeError("another one fails")

    with pytest.raises(CubeError, match="another one fails"):
        in_parallel([compute, fail])


def test_an_interruption_ends_those_that_run_and_waits_for_none_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcube.parallel._STOP_SECONDS", 0.5)
    hanging, ended = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.wait(10)

    def obey() -> None:
        try:
            while True:
                check_stopped()
                time.sleep(0.001)
        finally:
            ended.set()

    def check() -> None:
        raise Interrupted(2, "SIGINT")

    begun = time.monotonic()
    with pytest.raises(Interrupted):
        in_parallel([obey, *[hang] * 7], workers=8, check=check)
    assert ended.is_set()
    assert time.monotonic() - begun < 3, "each of them was waited for"
    hanging.set()


@pytest.mark.parametrize("admitted", [0, 1, 3])
def test_where_no_more_threads_may_be_those_that_run_do_everything(
    admitted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        if len(started) == admitted:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    jobs = [functools.partial(int, each) for each in range(20)]
    if admitted:
        assert in_parallel(jobs, jobs, workers=4) == [*range(20), *range(20)]
    else:
        with pytest.raises(CubeError, match="no further thread"):
            in_parallel(jobs, workers=4)

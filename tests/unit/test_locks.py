"""A lock has one holder at a time, and a dead holder holds nothing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mlcube import locks
from mlcube.bundling.joining import join
from mlcube.editing import edit
from mlcube.errors import Busy, CubeError
from mlcube.store import Store
from mlcube.zoo.building import build
from tests.unit.bundles import make

PYTHON = sys.executable


def dead_process() -> locks.Holder:
    """A process that has ended."""
    process = subprocess.Popen(["sleep", "60"])
    holder = locks.holder_of(process.pid)
    assert holder
    process.kill()
    process.wait()
    return msgspec.structs.replace(holder, token="dead")


def test_a_lock_is_a_file_as_long_as_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with locks.exclusive(str(path)):
        assert msgspec.json.decode(path.read_bytes(), type=locks.Holder).pid == os.getpid()
    assert os.listdir(path.parent) == []


def test_the_holder_is_named_to_who_does_not_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    named = f"held by process {os.getpid()} on"
    with locks.exclusive(path), pytest.raises(Busy, match=named) as caught, locks.exclusive(path):
        pass
    assert caught.value.status == 75


def test_who_waits_is_told_once_and_gets_it(tmp_path: Path) -> None:
    path, told, order = str(tmp_path / "lock"), list[str](), list[str]()

    def second() -> None:
        with locks.exclusive(path, wait_seconds=10, waiting=told.append):
            order.append("second")

    with locks.exclusive(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert told == [f"waiting for process {os.getpid()} on {os.uname().nodename}"]


def test_waiting_has_an_end(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    begun = time.monotonic()
    with locks.exclusive(path), pytest.raises(Busy), locks.exclusive(path, wait_seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - begun < 2


def test_an_error_inside_releases_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locks.exclusive(str(tmp_path / "lock")):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["home"]


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(msgspec.json.encode(dead_process()))
    with locks.exclusive(str(path)):
        pass
    assert os.listdir(tmp_path) == ["home"]


def test_a_lock_from_before_the_last_boot_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(locks.this_process(), boot="earlier", token="x")))
    with locks.exclusive(str(path)):
        pass


def test_a_lock_from_another_machine_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = msgspec.structs.replace(dead_process(), host="elsewhere")
    path.write_bytes(msgspec.json.encode(holder))
    with pytest.raises(Busy, match="on elsewhere") as caught, locks.exclusive(str(path)):
        pass
    assert caught.value.hint == f"wait for it; if it does not run: rm {path}"


def test_a_lock_that_was_never_finished_is_taken_over_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"")
    with pytest.raises(Busy), locks.exclusive(str(path)):
        pass
    os.utime(path, (1, 1))
    with locks.exclusive(str(path)):
        pass


def test_a_lock_in_a_place_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(CubeError, match="cannot be made"), locks.exclusive("/proc/lock"):
        pass


def _join(target: str, beside: Path) -> None:
    join([str(make(beside / "m.cube"))], target)


def _build(target: str, _: Path) -> None:
    build([], target)


def _edit(target: str, _: Path) -> None:
    edit(lambda data: data.update(default_platform="docker"), file=target)


def _pull(target: str, _: Path) -> None:
    with Store(target).lock("store"):
        pass


@pytest.mark.parametrize(
    ("write", "hint"),
    [
        (_join, "-o names another place"),
        (_build, "-o names another place"),
        (_edit, "CUBE_CONFIG_DIR names another folder for the settings"),
        (_pull, "CUBE_CACHE_DIR names another folder for what is kept"),
    ],
)
def test_where_no_lock_can_be_made_that_is_said_which_cannot_be_written(
    write: Callable[[str, Path], None], hint: str, tmp_path: Path
) -> None:
    with pytest.raises(CubeError) as caught:
        write("/proc/target", tmp_path)
    assert str(caught.value).splitlines() == [
        "error: `/proc/target` cannot be written: no such file or directory",
        f"hint: {hint}",
    ]


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = locks.this_process()
    assert locks.alive(me)
    assert not locks.alive(msgspec.structs.replace(me, start=me.start - 1))
    assert not locks.alive(dead_process())


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    time.sleep(0.3)
    assert locks.holder_of(process.pid) is None
    process.wait()


def test_many_processes_never_hold_it_together_and_one_that_is_killed_stops_nobody(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys, time
from mlcube import locks
for turn in range(8):
    with locks.exclusive({str(tmp_path / "lock")!r}, wait_seconds=60):
        os.mkdir({str(tmp_path / "inside")!r})  # fails if somebody else is inside
        time.sleep(0.002)
        os.rmdir({str(tmp_path / "inside")!r})
        if sys.argv[1] == "dies" and turn == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    kinds = ["lives", "dies", "lives", "dies"]
    processes = [subprocess.Popen([PYTHON, "-c", code, kind]) for kind in kinds]
    assert [process.wait() for process in processes] == [0, -9, 0, -9]


def test_of_many_who_find_a_dead_lock_one_wins_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    stale = msgspec.json.encode(dead_process())
    inside, most = 0, 0
    guard = threading.Lock()

    def take() -> None:
        nonlocal inside, most
        with locks.exclusive(str(path), wait_seconds=30):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with guard:
                inside -= 1

    for _ in range(4):
        path.write_bytes(stale)
        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1


def test_a_lock_whose_folder_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CubeError, match="cannot be made: not a directory"),
        locks.exclusive(str(tmp_path / "file/locks/lock"), wait_seconds=60),
    ):
        pass

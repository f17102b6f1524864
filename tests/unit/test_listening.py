"""Scripts that wait for a word, and for a while where none comes."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mlcube.listening import LISTENING

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]


def shell(script: str, directory: Path, name: str = "sh") -> tuple[str, float]:
    begun = time.monotonic()
    argv = [*(["busybox", "sh"] if name == "busybox" else [name]), "-euc", f"{LISTENING}\n{script}"]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout, time.monotonic() - begun


def test_a_word_cuts_a_rest_short(tmp_path: Path) -> None:
    said, seconds = shell("listen words.1; rounds=100; tell words.*; rest; echo $seconds $word", tmp_path)
    assert said == "13\n"
    assert seconds < 5


@pytest.mark.parametrize("name", SHELLS)
def test_a_word_cuts_a_rest_short_also_where_signals_are_caught(tmp_path: Path, name: str) -> None:
    often = "for n in 1 2 3 4 5 6 7 8; do tell words.*; rest; echo $seconds $word; done"
    said, seconds = shell(f"trap 'echo caught' TERM; listen words.1; rounds=100; {often}", tmp_path, name)
    assert said == "13\n" * 8
    assert seconds < 5


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("news", ["a line\\n", "unended", "\\r", "\\000"])
def test_what_comes_to_a_file_cuts_a_long_rest_short(tmp_path: Path, name: str, news: str) -> None:
    script = "printf known >one; (sleep 0.5; printf '%s' >>one) & listen words.1; rounds=100; rest one 5 none 0; "
    told = "echo $word $rounds; cat /proc/$$/task/$$/children"
    said, seconds = shell(script.replace("%s", news) + told, tmp_path, name)
    assert said.split()[0] == "100"
    assert len(said.split()) <= 3  # `cat` itself, and what wrote
    assert 0.4 < seconds < 5


@pytest.mark.parametrize("name", SHELLS)
def test_what_is_known_of_a_file_cuts_no_rest_short(tmp_path: Path, name: str) -> None:
    script = "printf known >one; : >two; listen words.1; rounds=32; rest one 5 two 0; echo $seconds $word $rounds"
    said, seconds = shell(script, tmp_path, name)
    assert said == "5 late 33\n"
    assert 5 <= seconds < 10


def test_without_a_word_a_rest_is_a_second_at_least(tmp_path: Path) -> None:
    said, seconds = shell("listen words.1; rest; echo $word", tmp_path)
    assert said == "late\n"
    assert 1 <= seconds < 5


def test_a_rest_that_a_word_cut_short_is_not_counted(tmp_path: Path) -> None:
    script = "listen words.1; for n in 1 2 3 4 5 6 7 8 9; do tell words.*; rest; done; echo $rounds"
    said, seconds = shell(script, tmp_path)
    assert said == "0\n"
    assert seconds < 5


def test_where_nothing_can_be_heard_any_more_a_rest_is_whole(tmp_path: Path) -> None:
    said, seconds = shell("listen words.1; exec 3<&-; rest; echo $word $rounds; rest; echo $rounds", tmp_path)
    assert said == "late 1\n2\n"
    assert 2 <= seconds < 10


def test_a_rest_leaves_nothing_running(tmp_path: Path) -> None:
    script = "listen words.1; rounds=200; tell words.*; rest; cat /proc/$$/task/$$/children"
    said, seconds = shell(script, tmp_path)
    assert len(said.split()) <= 1  # `cat` itself
    assert seconds < 5


def test_variables_of_the_environment_are_not_taken_for_its_own(tmp_path: Path) -> None:
    script = f"{LISTENING}\nrest; echo $rounds"
    argv = ["env", "rounds=many", "words=some", "sh", "-euc", script]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_where_no_file_can_be_made_a_rest_is_whole(tmp_path: Path) -> None:
    said, seconds = shell("listen nowhere/words; rest; echo $seconds", tmp_path)
    assert said == "1\n"
    assert 1 <= seconds < 5


def test_nobody_waits_for_who_has_gone(tmp_path: Path) -> None:
    _, seconds = shell("mkfifo words.1; tell words.* nothing.*", tmp_path)
    assert seconds < 5


def test_the_rests_grow_to_a_quarter_of_a_minute(tmp_path: Path) -> None:
    script = "sleep() { :; }; for n in $(seq 150); do rest; echo $seconds; done"
    pauses = [int(line) for line in shell(script, tmp_path)[0].split()]
    assert pauses[0] == 1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15
    assert sum(pauses[:24]) >= 24

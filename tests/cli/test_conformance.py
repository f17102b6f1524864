"""`cube conformance` on the screen: a table, its exit status, and what is said when there can be none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

QUICK = "test_9_status or test_10_a_memory or test_16_a_plan"


def conformance(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mlcube", "conformance", *words]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def test_each_promise_that_was_asked_has_a_line() -> None:
    done = conformance("local", "-k", QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        " 9  the status is the task's own  kept",
        "10  limits are what was asked     refused (`resources.memory` cannot be enforced without a container)",
        "16  rendering is pure             kept",
    ]
    assert "/10  test_9_status_is_the_tasks_own[42-script]: kept" in done.stderr


def test_a_platform_of_the_settings_is_asked_by_its_name_and_the_table_goes_to_a_file(tmp_path: Path) -> None:
    settings, table = tmp_path / "settings.yaml", tmp_path / "table.json"
    settings.write_text(f"platforms:\n  mine: {{runner: local, python: {sys.executable}}}\n")
    words = ("mine", "-k", "test_9_status", "--json", "--output", str(table))
    done = conformance(*words, MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads(table.read_text()) == {
        "platform": "mine",
        "promises": [
            {
                "subject": "mine",
                "promise": 9,
                "sentence": "the status is the task's own",
                "verdict": "kept",
                "reasons": [],
            }
        ],
    }


BROKEN = """\
import msgspec
from mlcube_runners.local import LocalRunner


class AlwaysSucceeds(LocalRunner, frozen=True, kw_only=True):
    def run(self, invocation, host):
        plan = super().run(invocation, host)
        argv = ("sh", "-c", '"$@"; exit 0', "sh", *plan.task.argv)
        return msgspec.structs.replace(plan, task=msgspec.structs.replace(plan.task, argv=argv))
"""


def test_a_broken_promise_is_told_with_its_tests_and_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[mlcube.runners]\nbroken = broken:AlwaysSucceeds\n")
    done = conformance("broken", "-k", "test_9_status and 42", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == (
        " 9  the status is the task's own  BROKEN "
        "(test_9_status_is_the_tasks_own[42-perform]; test_9_status_is_the_tasks_own[42-script])\n"
    )
    assert "assert 0 == 42" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("lcoal",), 2, "error: no platform is named `lcoal`\nhint: did you mean `local`? (`cube platforms`)\n"),
        (("local", "-k", "no_such"), 2, "error: `-k no_such` chooses no test\nhint: -k 'test_9_ or test_12_'\n"),
        (("ssh",), 2, "needs the option `host`"),
        ((), 2, "error: `cube conformance` needs the argument `PLATFORM`"),
    ],
    ids=["unknown", "nothing chosen", "incomplete", "missing"],
)
def test_what_cannot_be_asked_is_told(words: tuple[str, ...], status: int, said: str) -> None:
    done = conformance(*words)
    assert done.returncode == status
    assert said in done.stderr


def test_a_platform_that_cannot_be_used_is_told_with_what_would_make_it_so(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("platforms:\n  gone: {runner: docker, executable: docker-that-is-not-there}\n")
    done = conformance("gone", MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert done.returncode == 69
    assert "error: platform `gone` cannot be used here: `docker-that-is-not-there` is not installed" in done.stderr
    assert "hint: install Docker" in done.stderr


def test_without_pytest_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'pytest' else find(name, package)\n"
    )
    done = conformance("local", PYTHONPATH=str(tmp_path))
    said = "error: `cube conformance` needs pytest, which is not installed\nhint: pip install 'mlcube[conformance]'\n"
    assert (done.returncode, done.stderr) == (69, said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "mlcube", "conformance", "local", "-k", "test_9_status or test_11_a_time"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    assert "1/" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (128 + number, f"error: stopped by {number.name}")
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == []

"""Directories on another host that cannot be made, run full, or go away: told for what they are, and the run ends."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SSH_CONFIG

pytestmark = [pytest.mark.engine("ssh"), pytest.mark.engine("local")]

CUBE = """\
name: full
python: {source: src}
tasks:
  write:
    entrypoint: python write.py
    parameters:
      inputs: {given: {type: directory, default: given/}}
      outputs: {out: {type: directory, default: out/}}
  leave:
    entrypoint: python leave.py
    parameters:
      outputs: {out: {type: directory, default: out/}}
"""

WRITE = """\
import sys
(out,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--out=")]
open(out + "/first", "w").write("kept")
with open(out + "/second", "wb") as file:
    for _ in range(1000):
        file.write(bytes(1 << 16))
"""

LEAVE = """\
import pathlib, shutil, sys
(out,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--out=")]
shutil.rmtree(pathlib.Path(out).parent)
sys.exit(3)
"""


class Far:
    """A cube here, and a host on which runs have theirs in a certain directory."""

    def __init__(self, place: Path) -> None:
        self.root = place / "far"
        self.place = place
        self.cube = place / "full"
        (self.cube / "src").mkdir(parents=True)
        (self.cube / "workspace" / "given").mkdir(parents=True)
        (self.cube / "mlcube.yaml").write_text(CUBE)
        (self.cube / "src" / "write.py").write_text(WRITE)
        (self.cube / "src" / "leave.py").write_text(LEAVE)

    def run(self, task: str, *words: str) -> "subprocess.CompletedProcess[str]":
        far = f"runner: ssh, host: engine-host, config: '{SSH_CONFIG}', root: '{self.root}', inner: lab"
        text = f"platforms:\n  lab: {{runner: local, python: '{sys.executable}'}}\n  far: {{{far}}}\n"
        (self.place / "settings.yaml").write_text(text)
        return self.command("run", f"--mlcube={self.cube}", "--platform=far", f"--task={task}", *words)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(self.place / "settings.yaml")}
        argv = [sys.executable, "-m", "mlcube", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)

    def remains(self) -> list[str]:
        return [str(path) for path in self.root.glob("runs/*")]


@pytest.fixture
def far(tmp_path: Path) -> Far:
    return Far(tmp_path)


@pytest.fixture
def small(far: Far) -> Iterator[Far]:
    """With a disk there of five mebibytes."""
    if os.getuid() != 0:
        pytest.skip("only root mounts file systems")
    far.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(far.root)], check=True)
    yield far
    subprocess.run(["umount", str(far.root)], check=True)


def unsettled(far: Far) -> bool:
    return '"unsettled":"' in far.command("runs", "--json").stdout.replace(" ", "")


def test_a_root_that_cannot_be_made_is_told_at_once_and_nothing_is_left_to_settle(far: Far) -> None:
    far.root = Path("/proc/nothing/far")
    done = far.run("write")
    assert done.returncode == 74
    assert "the directory of the run, `engine-host:/proc/nothing/far/runs/" in done.stderr
    assert "set `root` of the platform" in done.stderr
    assert "connection" not in done.stderr
    assert not unsettled(far)


def test_a_disk_that_is_full_before_the_task_begins_is_told_and_the_run_ends(small: Far) -> None:
    (small.cube / "workspace/given/large").write_bytes(bytes(9 << 20))
    done = small.run("write")
    assert done.returncode == 74
    assert "No space left on device" in done.stderr
    assert "files could not be brought to or from `engine-host`" in done.stderr
    assert small.remains() == []
    assert not unsettled(small)


def test_a_disk_that_the_task_fills_is_told_and_what_was_written_comes_back(small: Far) -> None:
    done = small.run("write")
    assert done.returncode == 1
    assert f"the disk of `engine-host:{small.root}" in done.stderr
    assert "connection" not in done.stderr
    assert (small.cube / "workspace/out/first").read_text() == "kept"
    assert (small.cube / "workspace/out/second").stat().st_size > 1 << 20
    assert small.remains() == []
    assert not unsettled(small)


def test_a_disk_that_the_task_of_a_detached_run_fills_is_told_by_whoever_comes_back(small: Far) -> None:
    left = small.run("write", "--detach")
    assert left.returncode == 0, left.stderr
    done = small.command("wait", left.stdout.strip())
    assert done.returncode == 1
    assert f"the disk of `engine-host:{small.root}" in done.stderr
    assert (small.cube / "workspace/out/first").read_text() == "kept"
    assert small.remains() == []
    assert not unsettled(small)


def test_a_directory_that_has_gone_is_told_and_the_run_ends(far: Far) -> None:
    done = far.run("leave")
    assert done.returncode not in (0, 69)
    assert re.search(rf"nothing is left of run \S+ in engine-host:{far.root}", done.stderr)
    assert not unsettled(far)

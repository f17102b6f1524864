"""A connection that fails: the run goes on, what was sent is not sent again, and every line is seen once."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.forwarding import Wire
from tests.conftest import SSH_CONFIG

pytestmark = [pytest.mark.engine("ssh"), pytest.mark.engine("local")]

CUBE = """\
name: slow
python: {source: src}
tasks:
  count:
    entrypoint: python count.py
    parameters:
      outputs: {out: {type: directory, default: out/}}
  copy:
    entrypoint: python copy.py
    parameters:
      inputs: {given: {type: file, default: given.bin}}
      outputs: {copy: {type: file, default: copy.bin}}
"""

COUNT = """\
import argparse, os, sys, time
(out,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--out=")]
open(out + "/begun", "x").close()
for number in range(8):
    print("line", number, flush=True)
    print("error", number, file=sys.stderr, flush=True)
    time.sleep(0.5)
open(out + "/ended", "x").close()
"""

COPY = """\
import shutil, sys
places = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--"))
shutil.copy(places["given"], places["copy"])
"""


class Far:
    """A cube here, and a host that is reached over a wire."""

    def __init__(self, place: Path) -> None:
        text = Path(SSH_CONFIG).read_text()
        self.wire = Wire(int(re.findall(r"Port (\d+)", text)[0]))
        self.root = place / "far"
        config = re.sub(r"Port (\d+)", rf"Port {self.wire.port}\n  HostKeyAlias [127.0.0.1]:\1", text)
        (place / "config").write_text(config)
        far = f"runner: ssh, host: engine-host, config: '{place / 'config'}', root: '{self.root}', inner: lab"
        lab = f"runner: local, python: '{sys.executable}'"
        (place / "settings.yaml").write_text(f"platforms:\n  lab: {{{lab}}}\n  far: {{{far}}}\n")
        self.cube = place / "slow"
        (self.cube / "src").mkdir(parents=True)
        (self.cube / "workspace").mkdir()
        (self.cube / "mlcube.yaml").write_text(CUBE)
        (self.cube / "src" / "count.py").write_text(COUNT)
        (self.cube / "src" / "copy.py").write_text(COPY)
        self.environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(place / "settings.yaml")}

        self.records = place / "home/.local/state/mlcube/runs"
        self.began = time.time()

    def cube_command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "mlcube", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=120)

    def start(self, task: str) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-m", "mlcube", "run", f"--mlcube={self.cube}", "--platform=far", f"--task={task}"]
        return subprocess.Popen(
            argv,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until_begun(self) -> None:
        for _ in range(400):
            if list(self.root.glob("runs/*/*/begun")):
                return
            time.sleep(0.05)
        raise AssertionError("the task did not begin")

    def remains(self) -> list[str]:
        return [str(path) for path in self.root.glob("runs/*")]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    far = Far(tmp_path)
    yield far
    far.wire.close()


def test_a_task_runs_on_while_the_connection_is_lost_and_each_line_is_seen_once(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    time.sleep(1)
    far.wire.cut(back_in=1.5)
    out, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert out.split("\n")[:8] == [f"line {number}" for number in range(8)], out
    assert re.findall(r"^error (\d)$", errors, re.MULTILINE) == list("01234567"), errors
    assert "the connection was lost; the task runs on" in errors
    assert (far.cube / "workspace" / "out" / "ended").exists()
    assert far.remains() == []


def test_a_file_whose_transfer_was_cut_goes_on_where_it_stopped(far: Far) -> None:
    size = 40 << 20
    given = far.cube / "workspace" / "given.bin"
    given.write_bytes(os.urandom(size))
    far.wire.cut_after(size // 2, back_in=0.5)
    run = far.start("copy")
    errors = run.communicate(timeout=120)[1]
    assert run.returncode == 0, errors
    assert far.wire.cuts == 1
    assert far.wire.sent < 1.3 * size, "what had arrived was not sent again"
    assert digest(far.cube / "workspace" / "copy.bin") == digest(given)
    assert far.remains() == []


def test_a_file_whose_way_back_was_cut_goes_on_where_it_stopped(far: Far) -> None:
    size = 40 << 20
    given = far.cube / "workspace" / "given.bin"
    given.write_bytes(os.urandom(size))
    far.wire.cut_after(size + size // 2, back_in=0.5)
    run = far.start("copy")
    errors = run.communicate(timeout=120)[1]
    assert run.returncode == 0, errors
    assert far.wire.cuts == 1
    assert far.wire.returned < 1.3 * size, "what had come back was not sent again"
    assert digest(far.cube / "workspace" / "copy.bin") == digest(given)
    assert far.remains() == []


def test_outputs_come_back_also_after_a_long_time_without_a_network(far: Far) -> None:
    size = 8 << 20
    given = far.cube / "workspace" / "given.bin"
    given.write_bytes(os.urandom(size))
    far.wire.cut_after(size + size // 2, back_in=22)
    run = far.start("copy")
    errors = run.communicate(timeout=120)[1]
    assert run.returncode == 0, errors
    assert "the connection was lost; it is tried again, for hours if need be" in errors
    assert digest(far.cube / "workspace" / "copy.bin") == digest(given)
    assert far.remains() == []


def test_what_could_not_be_reached_at_the_end_is_told_and_seen_to_by_the_next_run(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    far.wire.cut(back_in=1e6)
    time.sleep(1)
    os.kill(run.pid, signal.SIGINT)
    errors = run.communicate(timeout=90)[1]
    assert run.returncode == 130, errors
    assert "could not be reached: the task may still run there" in errors
    assert far.remains()
    (left,) = os.listdir(far.records)
    removed = far.cube_command("runs", "remove", left)
    assert removed.returncode == 69
    assert "is not settled" in removed.stderr
    far.wire.mend()
    (far.cube / "workspace" / "given.bin").write_bytes(b"given")
    following = far.start("copy")
    errors = following.communicate(timeout=90)[1]
    assert following.returncode == 0, errors
    assert "left something elsewhere, which is seen to now" in errors
    assert "is settled" in errors
    assert (far.cube / "workspace" / "out" / "begun").exists()
    assert far.remains() == []
    assert subprocess.run(["pgrep", "-f", f"{far.root}/runs"], capture_output=True).stdout == b""


def test_what_is_on_a_host_that_is_no_more_can_be_forgotten(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    far.wire.cut(back_in=1e6)
    os.kill(run.pid, signal.SIGINT)
    run.communicate(timeout=90)
    (left,) = os.listdir(far.records)
    refused = far.cube_command("runs", "remove", left)
    assert refused.returncode == 69
    assert f"cube runs remove --force {left}" in refused.stderr
    assert far.cube_command("runs", "remove", "--force", left).returncode == 0
    assert os.listdir(far.records) == []


def test_the_directory_of_the_connection_may_go_away_while_a_task_runs(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    for sockets in (Path(f"/tmp/cube-{os.getuid()}"), far.cube.parent / "home/.cache/mlcube/ssh"):
        for socket in sockets.glob("*"):
            if os.stat(socket).st_mtime > far.began:
                socket.unlink()
    far.wire.cut(back_in=0.2)
    out, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert out.split("\n")[:8] == [f"line {number}" for number in range(8)], out
    assert far.remains() == []


def test_a_task_is_stopped_also_while_nobody_is_connected(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    far.wire.cut(back_in=3)
    time.sleep(1)
    os.kill(run.pid, signal.SIGINT)
    errors = run.communicate(timeout=90)[1]
    assert run.returncode == 130, errors
    assert not list(far.cube.glob("workspace/out/ended"))
    assert far.remains() == []


def test_what_a_killed_cube_left_there_is_ended_and_brought_back_by_the_next_run(far: Far) -> None:
    run = far.start("count")
    far.until_begun()
    time.sleep(1)
    run.kill()
    run.communicate()
    assert far.remains()
    given = far.cube / "workspace" / "given.bin"
    given.write_bytes(b"given")
    following = far.start("copy")
    errors = following.communicate(timeout=90)[1]
    assert following.returncode == 0, errors
    assert "was killed: what it left is cleaned up" in errors
    assert (far.cube / "workspace" / "out" / "begun").exists()
    assert far.remains() == []
    assert subprocess.run(["pgrep", "-f", f"{far.root}/runs"], capture_output=True).stdout == b""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

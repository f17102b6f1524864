"""Several users of one workspace, and what is kept of what they and their tasks leave there."""

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from mlcube import record
from mlcube.checksum import checksum
from mlcube.errors import Busy, Interrupted
from mlcube.plan import Plan, command
from mlcube.record import RunDirectory
from tests.unit.shell_runner import invocation
from tests.unit.test_running import children, run, start, until  # noqa: F401 - a fixture


def test_two_state_directories_on_one_workspace_do_not_interleave(
    tmp_path: Path,
    children: list[subprocess.Popen[str]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(children, tmp_path, "touch begun; sleep 60")
    until(tmp_path / "workspace" / "begun")
    (noted,) = (tmp_path / "workspace" / ".cube").iterdir()
    monkeypatch.setenv("CUBE_STATE_DIR", str(tmp_path / "state of another user"))
    with pytest.raises(Busy, match=f"held by run {noted.stem} "):
        run(tmp_path, invocation(tmp_path, "true", outputs=("out",)))
    assert run(tmp_path, invocation(tmp_path, "touch else", outputs=("else",))).status == "succeeded"
    assert list((tmp_path / "workspace" / ".cube").iterdir()) == [noted]
    children[0].terminate()
    children[0].wait()
    assert run(tmp_path, invocation(tmp_path, "touch out", outputs=("out",))).status == "succeeded"
    assert sorted(os.listdir(tmp_path / "workspace")) == ["begun", "else", "out"]


def test_what_a_workspace_says_of_runs_is_not_believed_further(tmp_path: Path) -> None:
    """A workspace may come with the cube: nothing that it says is performed, followed or waited for without end."""
    folder = tmp_path / "workspace" / ".cube"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "lock")
    os.utime(folder / "lock", (0, 0))
    evil = tmp_path / "evil"
    evil.mkdir()
    kill = Plan(kill=command("touch", str(tmp_path / "PWNED")))
    (evil / "plan.json").write_bytes(msgspec.json.encode(record.Plans(run=kill)))
    (tmp_path / "kept.json").touch()
    holder = {"pid": 1, "host": os.uname().nodename, "boot": "another", "start": 1}
    entry = {"task": "t", "paths": [str(tmp_path / "workspace" / "out")], "holder": holder}
    for run_id, name in ((os.path.relpath(evil, RunDirectory("x").path + "/.."), "a"), ("../../kept", "b")):
        (folder / f"{name}.json").write_bytes(msgspec.json.encode({"run": run_id, **entry}))
    assert run(tmp_path, invocation(tmp_path, "touch out", outputs=("out",))).status == "succeeded"
    assert not (tmp_path / "PWNED").exists()
    assert (tmp_path / "kept.json").exists()
    assert os.listdir(folder) == ["pipe.json"]


def test_who_writes_on_another_machine_is_waited_for_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / ".cube"
    folder.mkdir(parents=True)
    holder = {"pid": 1, "host": "elsewhere", "boot": "b", "start": 1}
    entry = {"run": "r", "task": "t", "paths": [str(tmp_path / "workspace" / "out")], "holder": holder}
    (folder / "r.json").write_bytes(msgspec.json.encode(entry))
    with pytest.raises(Busy, match="process 1 on elsewhere") as caught:
        run(tmp_path, invocation(tmp_path, "true", outputs=("out",)))
    assert caught.value.hint == (
        f"wait for it with `--wait`, or write elsewhere; if it does not run any more: rm {folder}/r.json"
    )


def test_a_link_that_the_task_made_has_no_checksum(tmp_path: Path) -> None:
    done = run(tmp_path, invocation(tmp_path, "echo x >one; ln -s one out", outputs=("out",)))
    assert [(output.path, output.sha256) for output in done.outputs] == [(f"{tmp_path}/workspace/out", None)]
    assert checksum(f"{tmp_path}/workspace/out").sha256 == "special"


def test_the_note_of_who_writes_is_no_part_of_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    before = checksum(str(tmp_path / "out"))
    (tmp_path / "out" / ".cube").mkdir()
    (tmp_path / "out" / ".cube" / "run.json").write_text("x")
    assert checksum(str(tmp_path / "out")) == before


def test_a_checksum_that_takes_long_says_so_and_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcube.running.SILENT_SECONDS", 0.0)
    told: list[str] = []
    bound = invocation(tmp_path, "echo x >out", outputs=("out",))
    assert run(tmp_path, bound, report=told.append).outputs[0].bytes == 2
    assert told == ["computing the checksum of output `out`"]

    def report(_message: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    os.truncate(tmp_path / "workspace" / "out", 64 << 20)
    bound = invocation(tmp_path, "true", outputs=("out",))
    with pytest.raises(Interrupted):
        run(tmp_path, bound, report=report)

"""What becomes of past runs: shown, settled and removed, whole or broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlcube import locks, record
from mlcube.plan import Plan, command
from mlcube.record import Plans, Record, RunDirectory

HOST = record.HostDescription(name="h", system="Linux", machine="x", kernel="6", cpus=1, memory_bytes=1)


def cube(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "mlcube", *words], capture_output=True, text=True, timeout=60)


def kept(run_id: str, **more: object) -> RunDirectory:
    run = RunDirectory(run_id)
    run.create()
    plain = Record(
        id=run_id,
        cube=record.CubeIdentity(name="c", file="/c/mlcube.yaml", digest="sha256:0"),
        task="t",
        platform=record.PlatformIdentity(name="p", runner="r"),
        invocation={},
        host=HOST,
        versions=record.Versions(cube="0", python="3"),
        started=record.now(),
    )
    run.write_record(msgspec.structs.replace(plain, **more))
    return run


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_run_with_a_broken_record_is_removed(content: str | None) -> None:
    run = kept("20240101-000000-aaaa", status="succeeded")
    file = Path(run.path, "record.json")
    file.unlink() if content is None else file.write_text(content)
    shown = cube("runs", "show", "2024")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "hint: cube runs remove 20240101-000000-aaaa" in shown.stderr
    done = cube("runs", "remove", "2024", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": [run.id]}), done.stderr
    assert not os.path.exists(run.path)


def test_what_is_shown_as_json_is_one_document() -> None:
    one, two = kept("20240101-000000-aaaa", status="succeeded").id, kept("20240101-000001-bbbb", status="failed").id
    assert json.loads(cube("runs", "show", one, "--json").stdout)["id"] == one
    assert [each["id"] for each in json.loads(cube("runs", "show", one, two, "--json").stdout)] == [one, two]


def test_a_log_is_not_printed_as_json() -> None:
    run = kept("20240101-000000-aaaa", status="succeeded")
    Path(run.log).write_text("hello\n")
    done = cube("runs", "log", "last", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["problems"][0]["message"] == "a log is text, not JSON"
    assert cube("runs", "log", "last").stdout == "hello\n"


@pytest.mark.engine("local")
def test_the_next_run_settles_runs_that_were_killed(tmp_path: Path) -> None:
    run = kept("20240101-000000-aaaa")
    run.write("holder.json", msgspec.structs.replace(locks.this_process(), start=1))
    assert cube("create", f"{tmp_path}/hello").returncode == 0
    done = cube("run", "--mlcube", f"{tmp_path}/hello", "--platform=local")
    assert done.returncode == 0
    assert "run 20240101-000000-aaaa was killed: what it left is cleaned up\n" in done.stderr
    assert record.find_run("20240101").finished


def test_listing_settles_runs_that_were_killed(tmp_path: Path) -> None:
    run = kept("20240101-000000-aaaa")
    run.write("plan.json", Plans(run=Plan(always=(command("touch", f"{tmp_path}/cleaned"),))))
    run.write("holder.json", msgspec.structs.replace(locks.this_process(), start=1))
    done = cube("runs", "--json")
    assert done.stderr == "run 20240101-000000-aaaa was killed: what it left is cleaned up\n"
    (found,) = json.loads(done.stdout)["runs"]
    assert (found["status"], found["exit_status"]) == ("interrupted", 137)
    assert (tmp_path / "cleaned").exists()
    assert cube("runs").stderr == ""

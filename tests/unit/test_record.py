"""Runs leave a record that is whole, private and true."""

import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube import directories, locks, record
from mlcube.checksum import checksum
from mlcube.errors import Busy, UsageError
from mlcube.plan import Plan, command
from mlcube.record import Plans, Record, RunDirectory

HOST = record.HostDescription(name="h", system="Linux", machine="x", kernel="6", cpus=1, memory_bytes=1)


def written(run_id: str, **more: object) -> RunDirectory:
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


def killed(run: RunDirectory) -> None:
    """As if the process that performs the run had been killed."""
    run.write("holder.json", msgspec.structs.replace(locks.this_process(), start=1))


def test_an_id_sorts_by_time_and_is_short_to_type() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", record.new_id())
    assert len({record.new_id() for _ in range(2000)}) == 2000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.now())


def test_runs_are_listed_newest_first() -> None:
    for run_id in ("20240102-000000-aaaa", "20240101-000000-bbbb", "20250101-000000-cccc"):
        written(run_id, status="succeeded", started=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T00:00:00.000Z")
    assert [found.id[:8] for found in record.runs()] == ["20250101", "20240102", "20240101"]


def test_there_are_no_runs_at_first() -> None:
    assert record.runs() == []
    with pytest.raises(UsageError, match="there are no runs yet"):
        record.find_run("last")


def test_broken_directories_are_passed_over() -> None:
    run = written("20240101-000000-aaaa", status="succeeded")
    for name, content in (("b", b"{"), ("c", b"\xff"), ("d", b"[]"), ("e", b'{"id": 3}')):
        broken = Path(run.path).parent / name
        broken.mkdir()
        (broken / "record.json").write_bytes(content)
    (Path(run.path).parent / "file").write_text("")
    assert [found.id for found in record.runs()] == ["20240101-000000-aaaa"]


def test_a_run_is_found_by_the_beginning_of_its_id_or_as_the_last() -> None:
    for run_id in ("20240101-000000-aaaa", "20240101-000001-bbbb", "20240101-000001-bbbbb"):
        written(run_id, status="succeeded", started=run_id)
    assert record.find_run("20240101-000000").id.endswith("-aaaa")
    assert record.find_run("20240101-000001-bbbb").id.endswith("-bbbb")
    assert record.find_run("last").id.endswith("-bbbbb")
    with pytest.raises(UsageError, match="`2024` is the beginning of 3 runs"):
        record.find_run("2024")
    with pytest.raises(UsageError, match="no run is named `2023`"):
        record.find_run("2023")


def test_a_run_that_goes_on_is_running_and_one_whose_process_is_dead_was_interrupted() -> None:
    run = written("20240101-000000-aaaa")
    assert record.find_run("last").status == "running"
    killed(run)
    assert record.find_run("last").status == "interrupted"
    os.unlink(f"{run.path}/holder.json")
    assert record.find_run("last").status == "interrupted"


def test_everything_is_the_users_alone() -> None:
    run = written("20240101-000000-aaaa")
    assert os.stat(run.path).st_mode & 0o777 == 0o700
    for name in os.listdir(run.path):
        assert os.stat(f"{run.path}/{name}").st_mode & 0o777 == 0o600


def test_a_live_run_is_not_removed() -> None:
    run = written("20240101-000000-aaaa")
    with pytest.raises(Busy, match="still runs"):
        record.remove(run.id)
    assert os.path.isdir(run.path)


def test_removing_a_killed_run_ends_what_it_left(tmp_path: Path) -> None:
    run = written("20240101-000000-aaaa")
    plan = Plan(kill=command("touch", f"{tmp_path}/killed"), always=(command("touch", f"{tmp_path}/always"),))
    run.write("plan.json", Plans(run=plan))
    killed(run)
    record.remove(run.id)
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "always").exists()
    assert record.runs() == []


def test_removing_a_finished_run_runs_nothing(tmp_path: Path) -> None:
    run = written("20240101-000000-aaaa", status="succeeded")
    run.write("plan.json", Plans(run=Plan(kill=command("touch", f"{tmp_path}/killed"))))
    record.remove(run.id)
    assert not (tmp_path / "killed").exists()


@pytest.mark.parametrize("name", ["..", ".", "", "../runs", "no-such"])
def test_only_runs_are_removed(name: str) -> None:
    run = written("20240101-000000-aaaa", status="succeeded")
    with pytest.raises(UsageError):
        record.remove(name)
    assert os.path.isdir(run.path)
    assert os.path.isdir(directories.state())


def test_a_record_is_described_for_a_schema() -> None:
    schema = msgspec.json.schema(Record)["$defs"]
    for name, definition in schema.items():
        for key, described in definition["properties"].items():
            assert {"description", "$ref", "anyOf"} & set(described), f"{name}.{key}"


def test_a_run_whose_record_is_broken_or_missing_is_found_and_removed() -> None:
    for run_id, content in (("20240101-000000-aaaa", b"{"), ("20240101-000001-bbbb", None)):
        run = written(run_id, status="succeeded")
        os.unlink(f"{run.path}/record.json")
        if content:
            Path(run.path, "record.json").write_bytes(content)
        with pytest.raises(UsageError, match=f"cube runs remove {run_id}|cannot be read"):
            record.find_run(run_id[:15])
        assert record.find_id(run_id[:15]) == run_id
        record.remove(run_id)
        assert not os.path.exists(run.path)


def test_runs_that_were_killed_are_known_until_they_are_settled() -> None:
    written("20240101-000000-aaaa", status="succeeded")
    written("20240101-000001-bbbb")
    dead = written("20240101-000002-cccc")
    killed(dead)
    assert record.killed() == [dead.id]
    record.settle(dead.id)
    assert record.killed() == []


def test_a_run_that_was_killed_stays_open_until_it_is_settled_whoever_looks() -> None:
    dead = written("20240101-000000-aaaa")
    killed(dead)
    assert record.unsettled("p") == []
    assert record.killed() == [dead.id]


def test_runs_that_are_over_are_not_looked_at_when_another_begins(private_home: Path) -> None:
    over, going = written("20240101-000000-aaaa", status="succeeded"), written("20240101-000001-bbbb")
    (open_runs,) = private_home.rglob("open")
    assert os.listdir(open_runs) == [going.id]
    (open_runs / over.id).touch()  # as if whoever ended it had been killed then
    assert record.unsettled("local") == []
    assert os.listdir(open_runs) == [going.id]
    record.remove(over.id)
    killed(going)
    record.remove(going.id)
    assert os.listdir(open_runs) == []


# Checksums


def test_a_files_checksum_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello\n")
    found = checksum(str(tmp_path / "f"))
    assert found.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert (found.bytes, found.files) == (6, 1)


def test_a_directorys_checksum_can_be_computed_by_hand(tmp_path: Path) -> None:
    import hashlib

    folder = tmp_path / "d"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "f").write_bytes(b"1")
    (folder / "a").write_bytes(b"22")
    os.symlink("nowhere", folder / "l")
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"22"))
    lines = f"a\0{two}\nb/f\0{one}\nl\0link:nowhere\n"
    found = checksum(str(folder))
    assert found.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert (found.bytes, found.files) == (3, 3)


def test_a_directorys_checksum_reads_no_pipe_and_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n")).write_text("x")
    assert checksum(str(folder)).files == 2


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=8), min_size=1))
def test_a_directorys_checksum_knows_contents_and_names_not_their_order(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for name, content in contents.items():
        (first / name).write_bytes(content)
    for name, content in reversed(contents.items()):
        (second / name).write_bytes(content)
    assert checksum(str(first)) == checksum(str(second))
    (second / "more").write_bytes(b"")
    assert checksum(str(first)).sha256 != checksum(str(second)).sha256

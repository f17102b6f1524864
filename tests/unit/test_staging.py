"""What of an invocation is sent to another host, where it lies there, and how it comes back without rsync."""

import os
import subprocess
from pathlib import Path

import pytest

from mlcube.invocation import Invocation, Mount, Parameter
from mlcube_runners._connection import packing
from mlcube_runners._staging import Parcel, stage


def invocation(mount: Mount, *parameters: Parameter) -> Invocation:
    return Invocation(
        cube="c", task="t", run_id="r", workspace="/w", scratch="/s", mounts=(mount,), parameters=parameters
    )


@pytest.mark.parametrize("path", ["/weights.bin", "/data/weights.bin", "/data/it's, one/weights.bin"])
def test_a_file_lies_there_where_it_is_sent(path: str) -> None:
    given = Parameter(name="weights", direction="input", type="file", path=path, target="/m/w")
    staging = stage(invocation(Mount(path, "/m/w"), given), "/far/runs/r")
    (parcel,) = staging.parcels
    (mount,) = staging.invocation.mounts
    assert parcel.names == ("weights.bin",)
    assert mount.source == os.path.join(parcel.target, "weights.bin")


@pytest.mark.parametrize("back", [(), ("a b", "-dash", "missing")])
@pytest.mark.parametrize("names", [(), ("a b",), ("a b", "-dash", "new\nline", ".hidden", "*")])
def test_what_is_there_comes_back_without_rsync(tmp_path: Path, names: tuple[str, ...], back: tuple[str, ...]) -> None:
    there, here = tmp_path / "it's there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    for name in names:
        (there / name).write_text(name)
    parcel = Parcel(source=str(here), target=str(there), back=back)
    archive = subprocess.run(["sh", "-c", packing(parcel)], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", str(here), "--ignore-zeros", "-xof", "-"], input=archive, check=True)
    expected = {name for name in names if not back or name in back}
    assert {path.name: path.read_text() for path in here.iterdir()} == {name: name for name in expected}


def test_more_names_than_a_command_can_have_come_back(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    for number in range(12_000):
        (there / f"{'x' * 200}{number}").touch()
    parcel = Parcel(source=str(here), target=str(there))
    archive = subprocess.run(["sh", "-c", packing(parcel)], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", str(here), "--ignore-zeros", "-xof", "-"], input=archive, check=True)
    assert len(os.listdir(here)) == 12_000

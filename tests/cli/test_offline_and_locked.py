"""Without the network what is kept is used, and what is missing named; a lock holds a run to what it was."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cli.pulling import PORT, cube, make_cube, publish


@pytest.fixture
def project(tmp_path: Path) -> Path:
    there = tmp_path / "project"
    (there / "workspace").mkdir(parents=True)
    (there / "workspace" / "data.txt").write_text("x")
    return there


def without_network(*words: str, cwd: Path, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """`cube` in a network namespace in which there is nobody."""
    argv = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.engine("registry")
def test_offline_uses_what_is_kept_and_names_what_is_not(project: Path, tmp_path: Path) -> None:
    repository = publish(make_cube(tmp_path / "cube"))
    reference = f"oci://{repository}:1.2"
    missing = without_network("describe", reference, "--offline", cwd=project, status=68)
    assert f"`{reference}` is not kept here" in missing.stderr
    digest = cube("pull", reference).stdout.split()[0]
    for words in (("describe", reference), ("run", reference, "--platform", "local", "--dry-run")):
        without_network(*words, "--offline", cwd=project)
    other = "sha256:" + "0" * 64
    absent = without_network("pull", f"oci://{repository}@{other}", "--offline", cwd=project, status=68)
    assert other in absent.stderr
    assert digest in cube("pull", f"oci://{repository}@{digest}", cwd=project, variables={"CUBE_OFFLINE": "1"}).stdout


@pytest.mark.engine("registry")
def test_a_lock_holds_to_the_digest_whatever_the_tag_leads_to(project: Path, tmp_path: Path) -> None:
    root = make_cube(tmp_path / "cube")
    repository = publish(root)
    reference = f"oci://{repository}:1.2"
    cube("lock", reference, cwd=project)
    lock = json.loads((project / "mlcube.lock").read_text())
    assert lock["reference"] == reference
    assert list(lock["data"]) == ["train.data"]
    (root / "src" / "train.py").write_text("print('another')\n")
    cube("publish", str(root), reference)
    pulled = json.loads(cube("pull", "--locked", "--json", cwd=project).stdout)
    assert pulled["digest"] == lock["cube"]["digest"]
    assert json.loads(cube("pull", reference, "--json", cwd=project).stdout)["digest"] != lock["cube"]["digest"]
    refused = cube("pull", f"oci://{repository}:1.3", "--locked", cwd=project, status=77)
    assert "the tag is `1.3`, and was `1.2`" in refused.stderr
    words = ("run", "--locked", "--task", "train", "--platform", "local", "--dry-run")
    cube(*words, cwd=project)
    (project / "workspace" / "data.txt").write_text("y")
    assert "the input `train.data`" in cube(*words, cwd=project, status=77).stderr


@pytest.mark.engine("registry")
def test_inputs_that_a_published_cube_brings_are_locked_before_the_first_run(tmp_path: Path) -> None:
    root, project = make_cube(tmp_path / "cube"), tmp_path / "project"
    (root / "workspace").mkdir()
    (root / "workspace" / "data.txt").write_text("sample")
    project.mkdir()
    reference = f"oci://127.0.0.1:{PORT}/test-pull-{uuid.uuid4().hex[:12]}:1.2"
    cube("publish", str(root), reference, "--with-inputs")
    cube("lock", reference, cwd=project)
    first = (project / "mlcube.lock").read_bytes()
    locked = json.loads(first)["data"]["train.data"]
    assert (locked["path"], locked["bytes"]) == ("data.txt", 6)
    words = ("run", "--locked", "--task", "train", "--platform", "local", "--dry-run")
    cube(*words, cwd=project)
    (project / "workspace").mkdir()
    (project / "workspace" / "data.txt").write_text("sample")  # as the first run copies it
    cube(*words, cwd=project)
    cube("lock", reference, cwd=project)
    assert (project / "mlcube.lock").read_bytes() == first
    (project / "workspace" / "data.txt").write_text("other")
    assert "the input `train.data`" in cube(*words, cwd=project, status=77).stderr


def test_what_cannot_be_locked_yet_is_told_with_the_command_to_repeat(tmp_path: Path) -> None:
    root = make_cube(tmp_path / "cube")
    told = cube("lock", cwd=root).stderr
    assert "not locked: the input `train.data`, for there is no `data.txt`; once there is one: cube lock\n" in told
    (root / "workspace").mkdir()
    (root / "workspace" / "data.txt").write_text("x")
    assert "not locked" not in cube("lock", cwd=root).stderr
    image = "registry.invalid/nowhere:1"
    file = root / "mlcube.yaml"
    file.write_text(f"docker: {{image: {image}}}\ntasks: {{train: {{}}}}\n")
    told = cube("lock", str(root), cwd=tmp_path).stderr
    again = f"cube lock {root} --platform docker"
    assert f"not locked: the image `{image}`, which no platform here has; with it: {again}\n" in told


def test_every_difference_of_a_folder_is_named(tmp_path: Path) -> None:
    root = make_cube(tmp_path / "cube")
    cube("lock", cwd=root)
    first = (root / "mlcube.lock").read_bytes()
    cube("lock", cwd=root)
    assert (root / "mlcube.lock").read_bytes() == first
    (root / "src" / "train.py").write_text("print('another')\n")
    (root / "mlcube.yaml").write_text((root / "mlcube.yaml").read_text() + "# changed\n")
    refused = cube("run", "--locked", "--task", "train", "--platform", "local", "--dry-run", cwd=root, status=77)
    assert "the cube's file" in refused.stderr
    assert "the code in" in refused.stderr
    assert "`cube lock` writes it anew" in refused.stderr


def test_there_must_be_a_lock_and_it_must_be_one(project: Path) -> None:
    assert "there is no `mlcube.lock`" in cube("run", "--locked", cwd=project, status=66).stderr
    (project / "mlcube.lock").write_text("{}")
    assert "it is no lock" in cube("run", "--locked", cwd=project, status=2).stderr

"""Without the network what is kept is used, and what is missing named; a lock holds a run to what it was."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mlcube import directories
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


@pytest.mark.engine("docker")
def test_a_locked_run_makes_an_image_that_is_not_there_yet_and_runs(base_image: str, tmp_path: Path) -> None:
    root = make_cube(tmp_path / "cube")
    (root / "workspace").mkdir()
    (root / "workspace" / "data.txt").write_text("x")
    file = root / "mlcube.yaml"
    file.write_text(file.read_text().replace("python: {", f"python: {{image: {base_image}, "))
    (root / "src" / "only-here.txt").write_text(uuid.uuid4().hex)  # so that no image of it is there
    cube("lock", "--platform", "local", cwd=root)
    cube("run", "--locked", "--task", "train", "--platform", "docker", cwd=root)
    assert (root / "workspace" / "out.txt").read_text() == "trained"
    assert len(json.loads(cube("runs", "--json").stdout)) == 1
    assert len(list(Path(directories.state(), "runs").iterdir())) == 1
    image = json.loads(cube("inspect", "--platform", "docker", "--json", cwd=root).stdout)
    subprocess.run(["docker", "image", "rm", "--force", image["image"]], check=True, capture_output=True)


def test_without_a_platform_a_locked_run_takes_one_whose_image_is_locked(tmp_path: Path) -> None:
    root = make_cube(tmp_path / "cube")
    (root / "workspace").mkdir()
    (root / "workspace" / "data.txt").write_text("x")
    cube("lock", "--platform", "local", cwd=root)
    done = cube("run", "--locked", "--task", "train", cwd=root)
    assert "chose platform local: its image is in `mlcube.lock`" in done.stderr
    assert (root / "workspace" / "out.txt").read_text() == "trained"


@pytest.mark.engine("registry")
def test_what_was_locked_is_locked_again_without_its_name(project: Path, tmp_path: Path) -> None:
    repository = publish(make_cube(tmp_path / "cube"))
    cube("lock", f"oci://{repository}:1.2", cwd=project)
    (project / "workspace" / "data.txt").write_text("y")
    words = ("run", "--locked", "--task", "train", "--platform", "local", "--dry-run")
    assert "`cube lock` writes it anew" in cube(*words, cwd=project, status=77).stderr
    cube("lock", cwd=project)
    cube(*words, cwd=project)


def test_there_must_be_a_lock_and_it_must_be_one(project: Path) -> None:
    assert "there is no `mlcube.lock`" in cube("run", "--locked", cwd=project, status=66).stderr
    (project / "mlcube.lock").write_text("{}")
    refused = cube("run", "--locked", cwd=project, status=2).stderr
    assert "mlcube.lock: error: it is no lock: object missing required field" in refused
    assert f"hint: `cube lock` writes `{project}/mlcube.lock` anew\n" in refused

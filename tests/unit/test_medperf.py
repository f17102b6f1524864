"""MedPerf's container files, read as cubes."""

from pathlib import Path

import pytest

from mlcube.binding import bind
from mlcube.cube import Cube
from mlcube.errors import InvalidFile
from mlcube.reading import read_cube

TEXT = """\
container_type: DockerImage
image: owner/model:1
tasks:
  infer:
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
      parameters_file: {mount_path: /volumes/parameters.yaml, type: file}
    output_volumes:
      output_path: {mount_path: /volumes/output, type: directory}
    run_args:
      command: python3 infer.py --data '/volumes/data'
      entrypoint: [/bin/run, "a b"]
      shm_size: 2g
      environment: {LEVEL: 1.10}
"""


def read(tmp_path: Path, text: str, *, strict: bool = True) -> Cube:
    (tmp_path / "container_config.yaml").write_text(text)
    return read_cube(str(tmp_path), strict=strict)[0]


def test_a_container_gets_its_command_and_not_the_tasks_name(tmp_path: Path) -> None:
    task = read(tmp_path, TEXT).tasks["infer"]
    assert task.command == ("python3", "infer.py", "--data", "/volumes/data")
    assert task.entrypoint == ("/bin/run", "a b")


def test_volumes_are_mounted_where_the_author_chose_and_files_themselves(tmp_path: Path) -> None:
    cube = read(tmp_path, TEXT)
    (tmp_path / "workspace" / "data_path").mkdir(parents=True)
    (tmp_path / "workspace" / "parameters_file").write_text("")
    invocation = bind(cube, "infer", run_id="r", scratch="/s")
    assert [(mount.source.rpartition("/")[2], mount.target, mount.access) for mount in invocation.mounts] == [
        ("data_path", "/volumes/data", "ro"),
        ("parameters_file", "/volumes/parameters.yaml", "ro"),
        ("output_path", "/volumes/output", "rw"),
    ]
    assert [str(word) for word in invocation.arguments] == ["python3", "infer.py", "--data", "/volumes/data"]


def test_it_runs_without_a_network_and_with_what_it_asks_for(tmp_path: Path) -> None:
    task = read(tmp_path, TEXT).tasks["infer"]
    assert (task.network, task.resources.shared_memory_bytes) == ("none", 2 << 30)
    assert task.environment == {"LEVEL": "1.10"}


def test_positions_are_those_of_the_file_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, TEXT.replace("/volumes/data,", "volumes,").replace("2g", "lots"))
    lines = [problem.position.line for problem in caught.value.problems if problem.position]
    assert lines == [6, 13]


def test_unknown_keys_are_errors_of_a_check(tmp_path: Path) -> None:
    text = TEXT.replace("shm_size", "shm_sise")
    read(tmp_path, text, strict=False)
    with pytest.raises(InvalidFile, match="unknown key `shm_sise` in run_args"):
        read(tmp_path, text)


def test_containers_that_need_a_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="`EncryptedDockerArchive` cannot be run from here"):
        read(tmp_path, TEXT.replace("DockerImage", "EncryptedDockerArchive"))


def test_a_singularity_file_is_an_image_for_singularity(tmp_path: Path) -> None:
    cube = read(tmp_path, TEXT.replace("DockerImage", "SingularityFile"))
    assert (cube.image, dict(cube.singularity)) == (None, {"image": "owner/model:1"})

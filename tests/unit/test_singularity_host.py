"""What the Singularity runner's questions are answered, and what the answers mean."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlcube.runner import Answer
from mlcube_runners._singularity_host import parse_devices, parse_engine, parse_sources, unusable
from mlcube_runners._singularity_steps import PLAIN_DOCKERFILE
from mlcube_runners.singularity import SingularityRunner

NAMES = ("apptainer", "singularity")


def answered(*lines: str) -> dict[str, Any]:
    return parse_engine(Answer(0, "".join(f"{line}\n" for line in lines), ""))


def test_the_engine_s_answer_is_plain_data() -> None:
    engine = answered(
        "user=1000", "cache=/c", "environment.PATH=/a=b:/c", "executable=apptainer", "version=apptainer version 1.4.5",
        "flag.mount=yes", "works.sif=yes", "works.overlay=yes", "problem.memory=FATAL:   no cgroups", "noise",
    )  # fmt: skip
    assert engine == {
        "user": 1000, "cache": "/c", "environment": {"PATH": "/a=b:/c"}, "executable": "apptainer",
        "version": "apptainer version 1.4.5", "flag": {"mount": "yes"}, "works": ["overlay", "sif"],
        "problem": {"memory": "no cgroups"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ([], "neither `apptainer` nor `singularity` is installed", "module load apptainer"),
        (
            ["executable=singularity", "version=singularity version 3.8.7"],
            "`singularity version 3.8.7` does not know `--mount` and `--no-eval`",
            "Apptainer 1.1",
        ),
        (
            ["executable=apptainer", "flag.mount=yes", "flag.no-eval=yes", "problem.unpacked=FATAL: no namespace"],
            "`apptainer` cannot start a container here: no namespace",
            "user.max_user_namespaces",
        ),
    ],
)
def test_why_it_cannot_be_used_is_said_with_what_to_do(lines: list[str], message: str, hint: str) -> None:
    reason = unusable(NAMES, {"singularity": answered(*lines)})
    assert reason is not None
    assert reason[0] == message
    assert hint in reason[1]


@pytest.mark.parametrize("works", ["sif", "unpacked"])
def test_it_can_be_used_where_one_kind_of_image_works(works: str) -> None:
    engine = answered("executable=apptainer", "flag.mount=yes", "flag.no-eval=yes", f"works.{works}=yes")
    assert unusable(NAMES, {"singularity": engine}) is None


def test_an_executable_of_the_user_s_is_the_only_one_asked() -> None:
    reason = SingularityRunner(executable="/opt/none").unusable({"singularity": answered()})
    assert reason is not None
    assert reason[0] == "`/opt/none` is not installed"


def test_sources_are_those_that_answer() -> None:
    assert parse_sources(Answer(0, "podman\nspython=/usr/bin/python3\n", "")) == {
        "builders": ["podman"],
        "spython": "/usr/bin/python3",
    }


def test_a_batch_system_s_choice_of_gpus_is_kept() -> None:
    shown = "0, GPU-a\n1, GPU-b\n"
    assert parse_devices(Answer(0, f"1\n{shown}", ""))["nvidia"] == [{"index": "1", "uuid": "GPU-b"}]
    assert len(parse_devices(Answer(0, f"all\n{shown}", ""))["nvidia"]) == 2
    assert parse_devices(Answer(0, "all\nrocm\nrocm\n", "")) == {"nvidia": [], "rocm": 2}


@pytest.mark.parametrize(
    ("dockerfile", "kept"),
    [
        ("FROM a\nUSER 1\nENTRYPOINT x\nCMD y\n", "FROM a\nENTRYPOINT x\n"),
        ("FROM a\n user 1\nCMD y\n", "FROM a\nCMD y\n"),
    ],
)
def test_a_dockerfile_is_converted_without_what_a_definition_file_would_misread(
    dockerfile: str, kept: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    plain = tmp_path / "plain"
    argv = ["sh", "-ec", PLAIN_DOCKERFILE, "sh", str(tmp_path / "Dockerfile"), str(plain)]
    subprocess.run(argv, check=True)
    assert plain.read_text() == kept

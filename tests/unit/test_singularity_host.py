"""What the Singularity runner's questions are answered, and what the answers mean."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlcube.plan import Command, WriteFile
from mlcube.runner import Answer
from mlcube_runners._singularity_definition import look_at
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


# Definition files


@pytest.fixture
def look(tmp_path: Path) -> Callable[[str], str]:
    """Looks at a definition, in a directory with files and links; gives what was said against it."""
    cube = tmp_path / "cube"
    (cube / "code").mkdir(parents=True)
    (cube / "code" / "main.py").write_text("")
    (cube / "a b").write_text("")
    (cube / "plain").mkdir()
    (cube / "plain" / "x").write_text("")
    (tmp_path / "private").write_text("of the user")
    (cube / "code" / "link").symlink_to("main.py")

    def said(text: str) -> str:
        (cube / "x.def").write_bytes(text.encode())
        write, command = look_at("./x.def", "`x.def`", directory=str(cube), script=str(tmp_path / "look"))
        assert isinstance(write, WriteFile)
        assert isinstance(command, Command)
        Path(write.path).write_text(str(write.text))
        done = subprocess.run(command.argv, cwd=command.directory, capture_output=True, text=True)
        assert done.returncode == (77 if done.stderr else 0)
        assert not (cube / "ran").exists()
        assert not Path(write.path).exists(), "it is gone before an image is kept"
        return done.stderr.removesuffix("\n")

    return said


def test_a_definition_that_stays_within_its_directory_is_built(look: Callable[[str], str]) -> None:
    text = """\
Bootstrap: docker
From: debian:{{ VERSION }}
Stage: build
%arguments
    VERSION=12
%files
    code /code
    "a b" /b
    plain/* /c
%post -c /bin/bash
    printf '%s' {{ VERSION }}

Bootstrap: localimage
From: /images/base.sif
%files from build
    /usr/bin/tool /usr/bin/tool
%appinstall one
    :
"""
    assert look(text) == ""
    assert look(text.replace("\n", "\r\n")) == ""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("%setup\n touch ran", 2, "`%setup` runs commands on the host, outside the image"),
        ("%SetUp -c /bin/sh\n touch ran", 2, "`%setup` runs commands on the host"),
        ("%%setup\n touch ran", 2, "`%setup` runs commands on the host"),
        ("%pre\n touch ran", 2, "`%pre` runs commands on the host"),
        ("%post\n cat <<X\n\t%setup\nX", 4, "`%setup` runs commands on the host"),
        ("%post\n:\nBootstrap: docker\nFrom: x\n%setup", 6, "`%setup` runs commands on the host"),
        ("%post\n\u2003%setup", 3, "`%setup` runs commands on the host"),
        ("%arguments\n a=setup\n%{{ a }}\n touch ran", 4, "what begins with `{{` could become a section"),
        ("%arguments\n a=%setup\n%post\n{{ a }}\n touch ran", 5, "what begins with `{{` could become a section"),
        ("%post\nboot{{ a }}: yum", 3, "what begins with `{{` could become a section"),
        ("%odd\n", 2, "`%odd` is no section of a definition"),
        ("%post\nBootstrap: yum\nInclude: -c odd", 3, "`Bootstrap: yum` runs programs of the host"),
        ("%post\nBootstrap: localimage\nFrom: /etc", 4, "`From:` is a directory that is not below `"),
        ("%files\n /etc/hostname /x", 3, "`%files` copies `/etc/hostname`, which is not below `"),
        ("%files\n\u00a0/etc/hostname /x", 3, "it is not plain what `%files` copies"),
        ('%files\n "a /etc/hostname" /x', 3, "`%files` copies `/etc/hostname`, which is not below `"),
        ("%files\n '/etc/hostname' /x", 3, "it is not plain what `%files` copies"),
        ("%files\n ~/private /x", 3, "`~/private` is more than a name to a shell"),
        ("%files\n {code,/etc/hostname} /x", 3, "is more than a name to a shell"),
        ("%files\n code/../../private /x", 3, "`%files` copies `code/../../private`: `..` could leave `"),
        ("%files\n .*/private /x", 3, "`%files` copies `.*/private`, which could mean `..`"),
        ("%files\n --target-directory=/home /x", 3, "which `cp` would take for an option"),
        ("%files\n $(touch${IFS}ran) /x", 3, "`$(touch${IFS}ran)` is more than a name to a shell"),
        ("%files from one\n $(touch${IFS}ran) /x", 3, "`$(touch${IFS}ran)` is more than a name to a shell"),
        ("%files from\n /etc/hostname /x", 3, "`%files` copies `/etc/hostname`, which is not below `"),
        ("%appfiles one\n /etc/hostname /x", 3, "`%appfiles` copies `/etc/hostname`, which is not below `"),
        ("%post\n\0", 1, "it is no text"),
    ],
)
def test_a_definition_that_reaches_out_of_its_directory_is_refused_with_its_line(
    look: Callable[[str], str], text: str, line: int, said: str
) -> None:
    told = look(f"Bootstrap: docker\n{text}\n")
    assert told.startswith(f"line {line} of `x.def`: ")
    assert said in told


def test_a_definition_copies_through_no_link_that_leads_out(look: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "cube" / "code" / "away").symlink_to("../../private")
    for copied in ("code/away", "code/aw*", "code", ".", "*"):
        assert "leads out of" in look(f"Bootstrap: docker\n%files\n {copied} /x\n")
    assert look("Bootstrap: docker\n%files\n plain /x\n") == "", "nothing is copied through a link"
    (tmp_path / "cube" / "plain" / "%x").write_text("")
    assert "`./plain/%x` is more than a name to a shell" in look("Bootstrap: docker\n%files\n plain/* /x\n")

"""The script beside an unpacked image tells bubblewrap where everything goes; a stand-in writes down what it hears."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlcube_runners._root_file_system import unpack
from tests.unit.images import Member, docker_archive, file, folder, layer, link

STAND_IN = """\
#!/bin/sh
cat <&3 >"$0.image"
cat <&4 >"$0.options"
printf '%s\\0' "$@" >"$0.words"
env >"$0.environment"
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the stand-in for bubblewrap was told."""

    image: list[str]
    options: list[str]
    words: list[str]
    environment: str

    def mounted(self, kind: str = "--ro-bind") -> list[str]:
        """The targets of the image's own mounts."""
        return [self.image[at + 2] for at, word in enumerate(self.image) if word == kind]

    def variable(self, name: str) -> str | None:
        places = [at for at, word in enumerate(self.image) if word == "--setenv" and self.image[at + 1] == name]
        return self.image[places[-1] + 2] if places else None


class Launcher:
    """An unpacked image with its script, in a directory whose name needs quoting."""

    def __init__(self, place: Path) -> None:
        self.place = place / "it's a place"
        self.place.mkdir()

    def image(self, *members: Member, **config: Any) -> None:
        archive = docker_archive(self.place / "image.tar", layer(*members), **config)
        unpack(str(archive), str(self.place / "store"), "name", "x:1")

    def launch(self, options: Sequence[str] = (), words: Sequence[str] = ("x",), whose: str = "image") -> Told:
        stand_in, notes = self.place / "bwrap", self.place / "notes"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        notes.mkdir(exist_ok=True)
        script = self.place / "store/references/name/launch"
        argv = ["/bin/sh", str(script), str(stand_in), str(notes), whose, *options, "--", *words]
        ended = subprocess.run(argv, capture_output=True, text=True, env={"SECRET": "s"})
        assert (ended.returncode, ended.stderr) == (0, ""), ended

        def listed(name: str) -> list[str]:
            return Path(f"{stand_in}.{name}").read_text().split("\0")[:-1]

        environment = Path(f"{stand_in}.environment").read_text()
        return Told(image=listed("image"), options=listed("options"), words=listed("words"), environment=environment)

    @property
    def root(self) -> str:
        return os.path.realpath(self.place / "store/references/name/root")


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def test_the_image_s_directories_and_links_are_mounted_into_an_empty_root(launcher: Launcher) -> None:
    launcher.image(folder("usr/bin"), link("bin", "usr/bin"), file(".hidden"), file("a 'b'\n"), folder("proc"))
    told = launcher.launch()
    assert sorted(told.mounted()) == ["/.hidden", "/a 'b'\n", "/sys", "/usr"]
    at = told.image.index("--symlink")
    assert told.image[at : at + 3] == ["--symlink", "usr/bin", "/bin"]
    assert f"{launcher.root}/usr" in told.image


def test_words_arrive_verbatim(launcher: Launcher) -> None:
    launcher.image(file("a"))
    hostile = ["", "$(id)", "it's", "a\nb", "--", "--bind", "*", "ü", "\\n", "-e"]
    told = launcher.launch(["--setenv", "X", "--", "--setenv", "--bind", "a\nb'"], hostile)
    assert told.words[told.words.index("--") + 1 :] == hostile
    assert told.options == ["--setenv", "X", "--", "--setenv", "--bind", "a\nb'"]


def test_the_image_s_entrypoint_comes_first_and_its_command_only_when_there_are_no_words(launcher: Launcher) -> None:
    launcher.image(file("a"), Entrypoint=["/bin/run it", "$x"], Cmd=["by default"])
    assert launcher.launch(words=["a"]).words[7:] == ["/bin/run it", "$x", "a"]
    assert launcher.launch(words=[]).words[7:] == ["/bin/run it", "$x", "by default"]
    assert launcher.launch(words=["sh", "a"], whose="task").words[7:] == ["sh", "a"]


def test_the_image_s_environment_is_told_and_none_of_it_is_the_environment_of_bubblewrap(launcher: Launcher) -> None:
    launcher.image(file("a"), Env=["PATH=/opt/bin", "LD_PRELOAD=/evil.so", "A=it's $(b)=c", "broken"])
    told = launcher.launch()
    assert {name: told.variable(name) for name in ("PATH", "LD_PRELOAD", "A", "broken")} == {
        "PATH": "/opt/bin",
        "LD_PRELOAD": "/evil.so",
        "A": "it's $(b)=c",
        "broken": None,
    }
    assert "LD_PRELOAD" not in told.environment
    assert "SECRET=s\n" in told.environment


def test_an_image_without_a_path_gets_the_usual_one(launcher: Launcher) -> None:
    launcher.image(file("a"))
    assert launcher.launch().variable("PATH") == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_the_task_s_directory_stands_above_the_image_s(launcher: Launcher) -> None:
    launcher.image(file("a"), WorkingDir="/work it")
    told = launcher.launch()
    assert told.image[told.image.index("--chdir") + 1] == "/work it"
    told = launcher.launch(["--chdir", "/own"])
    assert told.image[told.image.index("--chdir") + 1] == "/own"
    assert "--chdir" not in told.options


@pytest.mark.parametrize(
    ("target", "place", "made"),
    [
        ("/mlcube_io0", "/mlcube_io0", []),
        ("/etc", "/etc", []),
        ("/etc/deep/file", "/etc/deep/file", []),
        ("/etc/new", "/etc/new", ["/etc"]),
        ("/etc/deep/new/er", "/etc/deep/new/er", ["/etc", "/etc/deep"]),
        ("/var/run/key", "/run/key", ["/run"]),
        ("/link/new", "/etc/deep/new", ["/etc", "/etc/deep"]),
        ("/up/new", "/new", []),
        ("/to-nowhere/x", "/nowhere/x", []),
        ("/out/x", "/outside/x", []),
    ],
)
def test_a_mount_has_a_place_also_where_the_image_has_none(
    launcher: Launcher, target: str, place: str, made: list[str]
) -> None:
    launcher.image(
        *(folder("etc/deep"), file("etc/deep/file"), folder("run/lock"), folder("var"), link("var/run", "/run")),
        *(link("link", "etc/deep"), link("up", "../.."), link("to-nowhere", "nowhere"), link("out", "/outside")),
    )
    told = launcher.launch(["--bind", "/source", target])
    assert told.options == ["--bind", "/source", place]
    assert [told.image[at + 1] for at, word in enumerate(told.image) if word == "--dir"] == made
    for directory in made:
        inside = [f"{directory}/{name}" for name in os.listdir(launcher.root + directory)]
        assert all(path in told.image for path in inside), "what the image has in it is still there"


def test_a_mount_in_another_mount_is_left_to_that(launcher: Launcher) -> None:
    launcher.image(folder("data"))
    told = launcher.launch(["--bind", "/a", "/data", "--ro-bind", "/b", "/data/new/place"])
    assert told.options == ["--bind", "/a", "/data", "--ro-bind", "/b", "/data/new/place"]
    assert "--dir" not in told.image


@pytest.mark.parametrize(
    ("target", "message"),
    [("/file/x", "`/file` of the image is a file"), ("/circle/x", "goes through too many links of the image")],
)
def test_a_mount_that_can_have_no_place_is_refused(launcher: Launcher, target: str, message: str) -> None:
    launcher.image(file("file"), link("circle", "circle"))
    with pytest.raises(AssertionError, match=message):
        launcher.launch(["--bind", "/source", target])

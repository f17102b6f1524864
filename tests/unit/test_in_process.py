"""What is performed without a process leaves exactly what the real command would."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mlcube.in_process import answer, perform
from mlcube.plan import Command, command

NAMES = some.sampled_from(
    ["a", "b c", "-e", "!", "(", "$(c)", "é", "x\ny", "link", "dangling", "full", "empty", "folder"]
)
PATHS = some.lists(NAMES, min_size=1, max_size=4).map("/".join)


def furnished(root: Path) -> Path:
    """A directory with something of every kind."""
    (root / "folder" / "inner" / "deep").mkdir(parents=True)
    (root / "folder" / "inner" / "file").write_text("text")
    (root / "full").write_text("text")
    (root / "full").chmod(0o744)
    (root / "empty").touch()
    (root / "link").symlink_to("folder")
    (root / "folder" / "link").symlink_to("../full")
    (root / "dangling").symlink_to("nowhere")
    return root


def snapshot(root: Path) -> dict[str, tuple[str, int]]:
    """Every path with its kind, its target and its mode."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            target = os.readlink(path) if stat.S_ISLNK(mode) else ""
            found[os.path.relpath(path, root)] = (target, mode)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=some.lists(PATHS, min_size=1, max_size=3),
    words=some.sampled_from(["mkdir -p --", "mkdir -p -m 700 --", "rm -rf --"]),
)
def test_it_leaves_what_the_command_would_leave(
    tmp_path_factory: pytest.TempPathFactory, words: str, paths: list[str]
) -> None:
    ours, theirs = (furnished(tmp_path_factory.mktemp(name)) for name in ("ours", "theirs"))
    status = perform(command(*words.split(), *(f"{ours}/{path}" for path in paths)))
    if status is None:  # then the command is started, to the same end
        status = subprocess.run([*words.split(), *(f"{ours}/{path}" for path in paths)], capture_output=True).returncode
    real = subprocess.run([*words.split(), *(f"{theirs}/{path}" for path in paths)], capture_output=True).returncode
    assert (status, snapshot(ours)) == (real, snapshot(theirs))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, test=some.sampled_from(["-e", "-d", "-f", "-s", "-x"]))
def test_it_answers_as_test_does(tmp_path_factory: pytest.TempPathFactory, test: str, path: str) -> None:
    root = furnished(tmp_path_factory.mktemp("root"))
    answer = subprocess.run(["test", test, f"{root}/{path}"]).returncode
    assert perform(command("test", test, f"{root}/{path}")) == answer


@pytest.mark.parametrize("words", [("mkdir", "-p", "--"), ("mkdir", "-p", "-m", "700", "--")], ids=" ".join)
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o777], ids=oct)
@pytest.mark.parametrize("inherited", [0o755, 0o2775], ids=oct)
def test_new_directories_have_the_modes_that_mkdir_gives(
    tmp_path: Path, words: tuple[str, ...], mask: int, inherited: int
) -> None:
    tmp_path.chmod(inherited)
    paths = [tmp_path / name / "middle" / "last" for name in ("ours", "theirs")]
    before = os.umask(mask)
    try:
        assert perform(command(*words, str(paths[0]))) in (0, None)
        for path in paths:
            subprocess.run([*words, path], check=True)
    finally:
        os.umask(before)
    modes = [[os.stat(each).st_mode for each in (path, path.parent, path.parent.parent)] for path in paths]
    assert modes[0] == modes[1]


def test_the_common_commands_need_no_process(tmp_path: Path) -> None:
    inner = f"{tmp_path}/a/b"
    assert perform(command("mkdir", "-p", "--", inner)) == 0
    assert perform(command("test", "-d", inner)) == 0
    assert perform(command("rm", "-rf", "--", f"{tmp_path}/a", f"{tmp_path}/none")) == 0
    assert perform(command("test", "-d", inner)) == 1


@pytest.mark.parametrize(
    "other",
    [
        command("mkdir", "-p", "relative"),
        command("mkdir", "-p", "/tmp/../tmp/x"),
        command("mkdir", "-p", "-m", "700", "/tmp/x"),
        command("mkdir", "-p", "--"),
        command("rm", "-rf", "--", "/"),
        command("rm", "-rf", "--", "/tmp/cube-link/"),
        command("rm", "-rf", "/tmp/x"),
        command("test", "!", "-r", "/"),
        command("test", "-r", "/"),
        command("docker", "version"),
        Command(argv=("test", "-e", "/"), environment={"A": "b"}),
        Command(argv=("test", "-e", "/"), directory="/"),
        Command(argv=("test", "-e", "/"), clean=True),
    ],
    ids=str,
)
def test_anything_else_is_left_to_the_command(other: Command) -> None:
    assert perform(other) is None


def test_a_large_tree_is_left_to_rm_which_can_be_interrupted(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / str(number)).touch()
    assert perform(command("rm", "-rf", "--", str(tree))) is None
    assert len(list(tree.iterdir())) == 300


def test_what_fails_is_left_to_the_command_which_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert perform(command("mkdir", "-p", "--", f"{tmp_path}/file/below")) is None
    assert perform(command("mkdir", "-p", "--", f"{tmp_path}/file")) is None


def test_only_a_small_file_that_can_be_read_is_read(tmp_path: Path) -> None:
    root = furnished(tmp_path)
    (root / "large").write_bytes(b"x" * ((1 << 20) + 1))
    (root / "bytes").write_bytes(b"a\xffb")
    os.mkfifo(root / "fifo")
    assert answer(("cat", f"{root}/full")) == "text"
    assert answer(("cat", f"{root}/bytes")) == "a\ufffdb"
    for name in ("none", "folder", "dangling", "large", "fifo"):
        assert answer(("cat", f"{root}/{name}")) is None, name
    assert answer(("cat", "full")) is None
    assert answer(("cat", f"{root}/full", f"{root}/full")) is None

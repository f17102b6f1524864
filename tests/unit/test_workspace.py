"""The steps that prepare a workspace and collect from it, performed for real."""

import os
import subprocess
from pathlib import Path

import pytest

from mlcube.binding import bind
from mlcube.errors import CubeError, MissingInput, UsageError
from mlcube.invocation import Invocation
from mlcube.plan import Command, Fail, Step, Unless, WriteFile
from mlcube.reading import read_cube
from mlcube.workspace import after, always, before, check_writable, free_bytes, kind, locate, source_digest

TEXT = """\
docker: {image: owner/model:1}
tasks:
  t:
    secrets: {KEY: {mount: /run/secrets/key}}
    parameters:
      inputs: {config: {type: directory, default: config}, one: {type: file, default: deep/one.txt}}
      outputs: {out: {type: directory, default: out/deep}, report: {type: file, default: reports/r.txt}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "the cube's -folder"
    for name in ("config/sub/x", "deep/one.txt"):
        (root / "workspace" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "workspace" / name).write_text(name)
    (root / "mlcube.yaml").write_text(TEXT)
    return root


def invocation(root: Path, workspace: Path | None = None, **arguments: str) -> Invocation:
    cube, _ = read_cube(str(root))
    given = str(workspace) if workspace else None
    return bind(cube, "t", arguments=arguments, workspace=given, run_id="r", scratch=str(root.parent / "scratch"))


def perform(steps: tuple[Step, ...]) -> Fail | None:
    """Do what commands and conditions say; the failure that was reached, if any."""
    for step in steps:
        match step:
            case Command():
                subprocess.run(step.argv, check=True)
            case Unless() if subprocess.run(step.probe.argv).returncode != 0:
                if failed := perform(step.steps):
                    return failed
            case Fail():
                return step
            case _:
                assert isinstance(step, (Unless, WriteFile))
    return None


@pytest.mark.parametrize(
    ("workspace", "arguments", "said"),
    [
        ("/proc/sys/w", {}, "the workspace `/proc/sys/w` cannot be written: "),
        ("/proc/sys", {}, "the workspace `/proc/sys` cannot be written: "),
        ("/proc/sys", {"out": "net/out"}, "the workspace `/proc/sys` cannot be written: `/proc/sys/net`: "),
        ("here", {"out": "/proc/sys/x/out"}, "`/proc/sys/x/out` cannot be made: `/proc/sys`: "),
    ],
)
def test_where_nothing_can_be_written_that_is_said_before_anything_is_done(
    workspace: str, arguments: dict[str, str], said: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(CubeError) as caught:
        check_writable(invocation(root, tmp_path / workspace, **arguments))
    assert caught.value.args[0] in (f"{said}permission denied", f"{said}read-only file system")
    assert ("NAME=PATH" if workspace == "here" else "--workspace DIR names another") in str(caught.value)


def test_a_workspace_that_is_there_or_can_be_made_is_writable(root: Path, tmp_path: Path) -> None:
    check_writable(invocation(root))
    check_writable(invocation(root, tmp_path / "new" / "deep"))


def test_folders_of_outputs_are_there_before_the_task(root: Path) -> None:
    perform(before(invocation(root)))
    assert (root / "workspace" / "out" / "deep").is_dir()
    assert (root / "workspace" / "reports").is_dir()
    assert not (root / "workspace" / "reports" / "r.txt").exists()
    assert (root.parent / "scratch" / "home").is_dir()


def test_inputs_are_copied_into_another_workspace_once(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "-another 'workspace'"
    os.chmod(root / "workspace" / "deep" / "one.txt", 0o600)
    perform(before(invocation(root, target)))
    assert (target / "config" / "sub" / "x").read_text() == "config/sub/x"
    assert (target / "deep" / "one.txt").stat().st_mode & 0o777 == 0o600
    (root / "workspace" / "deep" / "one.txt").write_text("changed")
    perform(before(invocation(root, target)))
    assert (target / "deep" / "one.txt").read_text() == "deep/one.txt"


def test_secrets_that_are_mounted_are_written_by_name_only(root: Path) -> None:
    steps = [step for step in before(invocation(root)) if isinstance(step, WriteFile)]
    assert [(step.path, str(step.text)) for step in steps if "KEY" in step.path] != []
    assert all("swordfish" not in str(step) for step in steps)


def test_an_output_that_is_missing_is_a_failure_that_names_it(root: Path) -> None:
    bound = invocation(root)
    perform(before(bound))
    failed = perform(after(bound))
    assert failed is not None
    assert (failed.status, "output `report` is missing" in failed.message) == (73, True)
    (root / "workspace" / "reports" / "r.txt").write_text("x")
    assert perform(after(bound)) is None


def test_a_file_written_for_a_place_outside_is_brought_there_alone(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bound = invocation(root, report=str(outside / "r.txt"))
    perform(before(bound))
    (outside / ".r.txt.cube" / "r.txt").write_text("x")
    assert perform(after(bound)) is None
    perform(always(bound))
    assert [path.name for path in outside.iterdir()] == ["r.txt"]


def test_no_run_leaves_its_scratch_behind(root: Path) -> None:
    bound = invocation(root)
    perform(before(bound))
    perform(always(bound))
    assert not [path for path in root.parent.iterdir() if path.name.startswith("scratch")]


def test_the_workspace_is_the_users_or_the_cubes_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, _ = read_cube(str(root))
    monkeypatch.chdir(root.parent)
    assert locate(cube, None) == str(root / "workspace")
    assert locate(cube, "new") == str(root.parent / "new")
    assert locate(cube, "~/x") == os.path.expanduser("~/x")
    with pytest.raises(UsageError, match="`storage:x` is no folder"):
        locate(cube, "storage:x")
    with pytest.raises(UsageError, match="is a file"):
        locate(cube, str(root / "mlcube.yaml"))
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        locate(cube, "x\udcff")


def test_what_lies_at_a_path(root: Path) -> None:
    (root / "link").symlink_to("nothing")
    os.mkfifo(root / "pipe")
    assert [kind(str(root / name)) for name in ("workspace", "mlcube.yaml", "link", "pipe", "no")] == [
        "directory",
        "file",
        "file",
        "special",
        None,
    ]
    assert free_bytes(str(root / "not" / "yet")) > 0


class TestSourceDigest:
    """Names, modes and contents decide; nothing else."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        for name in ("a.py", "sub/b.py"):
            (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / name).write_text(name)
        return tmp_path / "s"

    def test_what_is_no_code_is_left_out(self, source: Path) -> None:
        before = source_digest(str(source))
        for name in (".git/x", "__pycache__/a.pyc", "sub/.git", ".venv/x", "sub/__pycache__/x", "c.pyc"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text("x")
        (source / "empty").mkdir()
        os.utime(source / "a.py", (0, 0))
        assert source_digest(str(source)) == before

    def test_content_name_and_mode_are_told_apart(self, source: Path) -> None:
        digests = [source_digest(str(source))]
        (source / "a.py").write_text("changed")
        digests.append(source_digest(str(source)))
        (source / "a.py").rename(source / "c.py")
        digests.append(source_digest(str(source)))
        (source / "c.py").chmod(0o755)
        digests.append(source_digest(str(source)))
        (source / "link").symlink_to("c.py")
        digests.append(source_digest(str(source)))
        (source / b"\xff".decode(errors="surrogateescape")).write_text("any name that a file system knows")
        digests.append(source_digest(str(source)))
        assert len(set(digests)) == 6

    def test_the_cubes_own_workspace_is_no_code_and_a_package_of_that_name_is(self, source: Path) -> None:
        digests = [source_digest(str(source))]
        (source / "workspace").mkdir()
        (source / "workspace" / "__init__.py").write_text("x")
        assert source_digest(str(source), ("workspace",)) == digests[0]
        digests.append(source_digest(str(source)))
        (source / "sub" / "workspace").mkdir()
        (source / "sub" / "workspace" / "__init__.py").write_text("x")
        digests.append(source_digest(str(source), ("workspace",)))
        assert len(set(digests)) == 3

    def test_the_digest_is_the_same_for_whoever_may_read_the_code(self, source: Path, tmp_path: Path) -> None:
        (source / "a.py").chmod(0o744)
        expected = source_digest(str(source))
        (source / "a.py").chmod(0o654)  # executable, though perhaps not for the one who asks
        assert source_digest(str(source)) == expected
        source.rename(tmp_path / "mounted elsewhere")
        assert source_digest(str(tmp_path / "mounted elsewhere")) == expected

    def test_a_link_in_a_circle_ends(self, source: Path) -> None:
        (source / "sub" / "up").symlink_to("..")
        assert len(source_digest(str(source))) == 64

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_file_that_cannot_be_read_is_told(self, source: Path) -> None:
        (source / "a.py").chmod(0)
        with pytest.raises(MissingInput, match="cannot be read: permission denied"):
            source_digest(str(source))

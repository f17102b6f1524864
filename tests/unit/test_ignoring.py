"""The patterns of a `.cubeignore`, with git itself as the witness of what they mean."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlcube.errors import InvalidFile, MissingInput
from mlcube.packing import Rules, contents, read_rules

PATHS = (
    *("a", "b.py", "ab", "doc/a", "doc/b.py", "doc/deep/a", "doc/deep/b.py", "build/x", "build/deep/x", "[a]", "a b"),
    *("#x", "!x", "deep/doc/a", "deep/doc/c-d", "x*y", "aa/bb/cc/dd", ".hidden/a"),
)
LETTERS = ("a", "b", "x", "doc", "deep", ".py", "b.py", "/", "/", " ", "-", "!", "#")
SIGNS = ("*", "**", "?", "[ab]", "[!a]", "[a-c]", "\\*", "[", "]", "\\ ")
PIECES = st.sampled_from((*LETTERS, *SIGNS))
# Git reads `doc**/a` in another way than its manual has it: as `doc/**/a`.
AMBIGUOUS = re.compile(r"[^/*]\*\*|\*\*[^/*]|\*\*\*")
PATTERN = st.lists(PIECES, min_size=1, max_size=6).map("".join).filter(lambda text: not AMBIGUOUS.search(text))
PATTERNS = st.lists(PATTERN, min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


def gits(root: Path, patterns: list[str]) -> set[str]:
    (root / ".git/info/exclude").write_text("".join(f"{pattern}\n" for pattern in patterns))
    told = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(told.stdout.split("\0")) - {""}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(patterns=["*", "!doc/", "!doc/**"])
@example(patterns=["doc/**/a", "!/doc/a"])
@example(patterns=["**/doc/**"])
@example(patterns=["/*", "!/doc"])
@example(patterns=["deep/*", "\\#x", "\\!x"])
@example(patterns=["a\\ b", "[[]a]", "[a]"])
@example(patterns=["**", "!a"])
@example(patterns=["x\\*y", "d*/"])
@example(patterns=["[]-a]b", "[!]a]"])
@given(patterns=PATTERNS)
def test_patterns_mean_what_they_mean_to_git(patterns: list[str], tree: Path) -> None:
    rules = Rules((".git", *patterns, "/.git"))
    assert {entry.path for entry in contents(str(tree), rules)} == gits(tree, patterns)


def test_defaults_can_be_taken_back(tmp_path: Path) -> None:
    for path in (".env", "a.pyc", "workspace/data", ".git/config", "code/__pycache__/x", "code/a.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    assert [entry.path for entry in contents(str(tmp_path), read_rules(str(tmp_path)))] == ["code/a.py"]
    (tmp_path / ".cubeignore").write_text("# what is published although it is ignored usually\n!.env\ncode/\n")
    assert [entry.path for entry in contents(str(tmp_path), read_rules(str(tmp_path)))] == [".cubeignore", ".env"]


def test_a_class_by_name_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / ".cubeignore").write_text("ok\nx[[:alpha:]]\n")
    with pytest.raises(InvalidFile) as caught:
        read_rules(str(tmp_path))
    assert str(caught.value).startswith(".cubeignore:2:2: error: classes such as")


@pytest.mark.parametrize("kind", ["link to a device", "link to a file", "named pipe", "folder", "too long"])
def test_what_is_no_file_of_patterns_is_refused_by_its_name_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ".cubeignore"
    (tmp_path / "patterns").write_text("*.log\n")
    if kind.startswith("link"):
        path.symlink_to("/dev/zero" if kind.endswith("device") else "patterns")
    elif kind == "named pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"# no pattern\n" * 100_000)
    with pytest.raises(MissingInput, match=re.escape(f"`{path}` is ")):
        read_rules(str(tmp_path))


def test_patterns_behind_a_byte_order_mark_and_with_any_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / ".cubeignore").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    rules = read_rules(str(tmp_path))
    assert rules("one", False)
    assert rules("two", False)
    (tmp_path / ".cubeignore").write_bytes(b"\xff\n")
    with pytest.raises(MissingInput, match="no UTF-8"):
        read_rules(str(tmp_path))

"""What gets into a pod through connections that are cut: all of it, and little of it twice."""

import os
import random
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlcube_runners._kubernetes_far import FAR
from mlcube_runners._kubernetes_sending import SENDING

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
LARGE = 5 << 20
NOBODY = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
"""A pod has no root."""

SEND = """
cd "$1" && eval "$2"
target=to source=$3 follow=$4 job=none pauses='0 0 0 0 end' listing= waited=0
shift 4
say() { printf '%s\\n' "$@" >&2; }
look() { return 1; }
# Each connection that brings something is cut after as many bytes as the next line of `cuts` says.
inside() {
  shift
  echo "$1" >>words
  case $1 in list | begin) far "$@"; return ;; esac
  cut=$(head -n 1 cuts) && sed 1d cuts >rest && mv rest cuts
  case $cut in half*)
    # It stays half open: the pod does not hear of its end.
    head -c "${cut#half}" >half.$$
    { cat half.$$; sleep 3; } 2>/dev/null | far "$@" >/dev/null 2>&1 &
    until [ -e "$VOLUME/control/taking/reader" ]; do sleep 0.1; done
    sleep 0.2
    return 1 ;;
  esac
  if [ -n "$cut" ]; then head -c "$cut" | { tee -a brought | far "$@" >/dev/null; }; return 1; fi
  tee -a brought | far "$@"
}
far() { (cd "$VOLUME" && $AS $SHELL -c 'eval "$CUBE_FAR"' far "$@"); }
pass_on 0 "$@"
"""


class Wire:
    """A pod that receives, and connections to it that are cut."""

    def __init__(self, place: Path, shell: str) -> None:
        self.place, self.volume, self.source = place / "run", place / "volume", place / "it's here"
        for folder in (self.place, self.volume, self.source):
            folder.mkdir()
        self.shell = "busybox sh" if shell == "busybox" else shell
        far = FAR.replace("cd /cube ", f"cd '{self.volume}' ")
        self.environment = {**os.environ, "CUBE_FAR": far, "SHELL": self.shell, "VOLUME": str(self.volume)}
        self.environment["AS"] = shlex.join(NOBODY)
        self.environment |= {"links": "-L", "words": "of", "rounds": "the", "LC_ALL": "C.UTF-8"}  # image's own
        (self.place / "cuts").touch()
        if NOBODY:
            shutil.chown(self.volume, 65534, 65534)
        self.receiving = subprocess.Popen(
            [*NOBODY, *self.shell.split(), "-c", 'eval "$CUBE_FAR"', "far",
             "receive", "streams", "control", "to", "--", "all"],
            env=self.environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def cut_after(self, *sizes: int | str) -> None:
        (self.place / "cuts").write_text("".join(f"{size}\n" for size in sizes))

    def send(self, *names: str, follow: bool = False) -> "subprocess.CompletedProcess[str]":
        paths = [f"./{name}" for name in names] or ["."]
        words = [str(self.place), SENDING.replace("@LOST@", "255"), str(self.source), "-h" if follow else "", *paths]
        argv = [*self.shell.split(), "-uc", SEND, "sh", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    def has_another(self, program: str, script: str) -> None:
        """Both ends find this one first."""
        programs = self.place / "programs"
        programs.mkdir()
        (programs / program).write_text(script)
        (programs / program).chmod(0o755)
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"

    def words(self) -> list[str]:
        return (self.place / "words").read_text().split()

    def brought(self) -> int:
        return (self.place / "brought").stat().st_size

    def end(self) -> None:
        argv = [*NOBODY, *self.shell.split(), "-c", 'eval "$CUBE_FAR"', "far", "begin"]
        subprocess.run(argv, env=self.environment, check=True, stdout=subprocess.DEVNULL, timeout=20)
        assert self.receiving.communicate(timeout=20)[1] == ""

    def kill(self) -> None:
        """End whatever it began, as a container's end does: what waits for an hour without news waits on otherwise."""
        with suppress(ProcessLookupError):
            os.killpg(self.receiving.pid, signal.SIGKILL)
        self.receiving.communicate()


@pytest.fixture(params=SHELLS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with tempfile.TemporaryDirectory() as place:  # those of pytest are closed to others
        os.chmod(place, 0o711)
        wire = Wire(Path(place), request.param)
        try:
            yield wire
        finally:
            wire.kill()


def tree(folder: Path) -> dict[bytes, object]:
    """What there is, with modes, times, contents and where links lead."""
    found: dict[bytes, object] = {}
    for within, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(within, name)
            told = os.lstat(path)
            mode, content = told.st_mode & 0o700, None
            if stat.S_ISLNK(told.st_mode):
                found[os.path.relpath(path, os.fsencode(folder))] = os.readlink(path)
                continue
            if stat.S_ISREG(told.st_mode):
                mode, content = told.st_mode & 0o755, (int(told.st_mtime), Path(os.fsdecode(path)).read_bytes())
            found[os.path.relpath(path, os.fsencode(folder))] = (stat.S_IFMT(told.st_mode), mode, content)
    return found


def fill(folder: Path) -> None:
    (folder / "deep/er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "deep/er/a name, it's $HOME").write_text("text")
    (folder / "-rf").write_text("")
    (folder / "large.bin").write_bytes(os.urandom(LARGE))
    (folder / "program").write_bytes(os.urandom(LARGE))
    (folder / "program").chmod(0o750)
    (folder / "linked").symlink_to("deep/er")
    for name in ("large.bin", "program"):
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    for number in range(40):
        (folder / f"deep/{number}").write_bytes(os.urandom(1000))


def test_what_comes_in_one_connection_is_asked_for_nothing_more(wire: Wire) -> None:
    fill(wire.source)
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert wire.words() == ["unpack"]
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


@pytest.mark.parametrize("cuts", [(0,), (700,), (3 << 20, 2 << 20), (7 << 20, 100, 1 << 20), (10 << 20, 30_000)])
def test_connections_that_are_cut_go_on(wire: Wire, cuts: tuple[int, ...]) -> None:
    fill(wire.source)
    wire.cut_after(*cuts)
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == tree(wire.source)
    # Less than a mebibyte of the file on which each was cut is brought twice, and the small ones beside it.
    assert wire.brought() < 2 * LARGE + len(cuts) * (1 << 20) + 300_000
    wire.end()


def test_names_that_fit_into_no_line_are_brought_again_with_everything(wire: Wire) -> None:
    fill(wire.source)
    (wire.source / "two\nlines").write_text("text")
    (wire.source / "back\\slash").write_text("text")
    wire.cut_after(4 << 20)
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


def test_only_what_is_named_is_brought_and_links_are_followed_where_that_is_said(wire: Wire) -> None:
    fill(wire.source)
    (wire.source / "to a file").symlink_to("large.bin")
    wire.cut_after(3 << 20)
    sent = wire.send("to a file", "deep/er", follow=True)
    assert sent.returncode == 0, sent.stderr
    there = tree(wire.volume / "to")
    assert sorted(there) == [b"deep", b"deep/er", b"deep/er/a name, it's $HOME", b"to a file"]
    assert (wire.volume / "to/to a file").read_bytes() == (wire.source / "large.bin").read_bytes()
    assert not (wire.volume / "to/to a file").is_symlink()
    wire.end()


def test_a_link_that_is_named_stays_one(wire: Wire) -> None:
    fill(wire.source)
    sent = wire.send("linked")
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == {b"linked": b"deep/er"}
    wire.end()


def test_who_sends_once_more_brings_only_what_is_lacking(wire: Wire) -> None:
    fill(wire.source)
    assert wire.send().returncode == 0
    before = wire.brought()
    assert wire.send().returncode == 0
    assert (wire.words(), wire.brought()) == (["unpack", "list"], before)
    wire.end()


def test_what_has_changed_is_brought_again(wire: Wire) -> None:
    fill(wire.source)
    wire.cut_after(12 << 20)
    assert wire.send().returncode == 0
    (wire.source / "large.bin").write_bytes(os.urandom(LARGE))
    before = wire.brought()
    assert wire.send().returncode == 0
    assert tree(wire.volume / "to") == tree(wire.source)
    assert LARGE < wire.brought() - before < LARGE + 50_000
    wire.end()


@pytest.mark.parametrize("at", [1000, LARGE - 1000])
def test_what_changes_on_its_way_is_told(wire: Wire, at: int) -> None:
    (wire.source / "file").write_bytes(b"o" * LARGE)
    changing = f"""#!/bin/sh
    [ ! -e '{wire.volume}/to/file' ] || printf x | dd of='{wire.volume}/to/file' bs=1 seek={at} conv=notrunc 2>/dev/null
    exec {shutil.which("cksum")} "$@"
    """
    wire.has_another("cksum", changing)
    if wire.shell.startswith("busybox"):
        pytest.skip("its `find` starts no other `cksum`")
    sent = wire.send()
    assert sent.returncode == 74
    assert "what the pod has is not what is here" in sent.stderr
    assert sent.stderr.count("\n") == 2
    wire.end()


def test_a_disk_that_is_full_there_is_told(wire: Wire) -> None:
    fill(wire.source)
    wire.environment["CUBE_FAR"] = f"ulimit -f 1024; trap '' XFSZ; {wire.environment['CUBE_FAR']}"
    sent = wire.send()
    assert sent.returncode == 74
    assert "the pod cannot take what is sent: tar: " in sent.stderr
    wire.end()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_here_is_told_by_who_reads_it(wire: Wire) -> None:
    fill(wire.source)
    (wire.source / "large.bin").chmod(0)
    sent = wire.send()
    assert sent.returncode == 1
    assert "large.bin" in sent.stderr
    wire.end()


def test_of_two_who_send_the_later_one_goes_on(wire: Wire) -> None:
    fill(wire.source)
    (wire.place / "cuts").write_text("100\n" * 3)
    # The first one finds another one's number where its own should be, after its connection was cut.
    script = SEND.replace("inside() {", "inside() {\n  echo 1 >sender.0", 1)
    argv = [*wire.shell.split(), "-uc", script, "sh", str(wire.place), SENDING.replace("@LOST@", "255")]
    first = subprocess.run(
        [*argv, str(wire.source), "", "."], env=wire.environment, capture_output=True, check=False, timeout=60
    )
    assert first.returncode == 255
    assert wire.words() == ["unpack"]
    assert wire.send().returncode == 0
    assert tree(wire.volume / "to") == tree(wire.source)
    assert not list(wire.place.glob("sending.*"))
    wire.end()


NAMES = [
    b"a",
    b"b ",
    b"  c",
    b"-rf",
    b"x\ny",
    b"back\\slash",
    b"*",
    b"?",
    b"'q'",
    b'"d"',
    b"$HOME",
    b"geoffrey",
    b"ok\x80",
]
NAMES += [b"1 2 .", b"a\n1 2 .", b"done", b"failed x", b"\ttab", b"n\\n", b"`id`", b"\xff\xfe"]


def grow(folder: Path, chance: random.Random) -> None:
    """A tree with names of every kind, links, and directories to which nothing may be added."""
    folders = [os.fsencode(folder)]
    lines = chance.random() < 0.5
    for number in range(chance.randint(1, 25)):
        name = chance.choice(NAMES) if chance.random() < 0.3 else b"f %d" % number
        path = os.path.join(chance.choice(folders), name if lines else name.replace(b"\n", b"_"))
        if os.path.lexists(path):
            continue
        kind = chance.random()
        if kind < 0.3:
            os.mkdir(path)
            folders.append(path)
        elif kind < 0.4:
            os.symlink(chance.choice(["a", "nowhere", "/etc/passwd", "../x", "."]), path)
        elif kind < 0.45:
            os.mkfifo(path)
        else:
            content = chance.randbytes(chance.choice([chance.randint(0, 3000), chance.randint(0, LARGE)]))
            Path(os.fsdecode(path)).write_bytes(content)
            os.chmod(path, chance.choice([0o644, 0o600, 0o444, 0o755, 0o400]))
            os.utime(path, (1_000_000_000 + number,) * 2)
    for each in folders[:0:-1]:
        # What has names of several lines goes whole, and `tar` of busybox fills no such directory.
        os.chmod(each, chance.choice([0o755, 0o700] if lines else [0o755, 0o700, 0o555, 0o500]))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_cut_wherever_comes_as_it_is(wire: Wire, seed: int) -> None:
    chance = random.Random(seed)
    grow(wire.source, chance)
    sizes = [chance.choice([3000, 1 << 16, 8 << 20]) for _ in range(chance.randint(1, 4))]
    wire.cut_after(*(f"{chance.choice(['', '', 'half'])}{chance.randint(0, size)}" for size in sizes))
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


def test_links_that_were_not_made_yet_when_the_connection_was_replaced_are_made(wire: Wire) -> None:
    """`tar` puts an empty file for a link that leads elsewhere, until it ends."""
    (wire.source / "a").symlink_to("/etc/passwd")
    (wire.source / "b").write_bytes(os.urandom(LARGE))
    wire.cut_after(f"half{LARGE // 2}")
    sent = wire.send("a", "b")
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


@pytest.mark.parametrize("cuts", [(), ("30000",), ("half30000",)])
def test_directories_to_which_nothing_may_be_added_are_filled(wire: Wire, cuts: tuple[str, ...]) -> None:
    for folder in ("kept", "kept/deep er", "none"):
        (wire.source / folder).mkdir()
        (wire.source / folder / "file").write_bytes(os.urandom(20_000))
    for folder in ("none", "kept/deep er", "kept"):
        (wire.source / folder).chmod(0o555)
    wire.cut_after(*cuts)
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


def test_a_file_keeps_its_mode_and_time_where_the_end_of_its_rest_was_not_heard(wire: Wire) -> None:
    (wire.source / "file").write_bytes(os.urandom(LARGE))
    (wire.source / "file").chmod(0o444)
    os.utime(wire.source / "file", (1_000_000_000, 1_000_000_000))
    wire.cut_after(3 << 20, f"half{LARGE}")
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert wire.words() == ["unpack", "list", "append", "list"]
    assert tree(wire.volume / "to") == tree(wire.source)
    wire.end()


def test_a_full_disk_is_told_whatever_the_names_are(wire: Wire) -> None:
    (wire.source / "geoffrey").write_bytes(os.urandom(LARGE))
    wire.environment["CUBE_FAR"] = f"ulimit -f 1024; trap '' XFSZ; {wire.environment['CUBE_FAR']}"
    sent = wire.send()
    assert sent.returncode == 74
    assert "the pod cannot take what is sent: tar: " in sent.stderr
    wire.end()


def test_a_file_that_grows_while_it_is_read_is_compared_and_no_failure(wire: Wire) -> None:
    """GNU's `tar` fails where it was added to."""
    grown = wire.place / "grown"
    (wire.source / "log").write_bytes(b"line\n" * 100)
    growing = f"""#!/bin/sh
    {shutil.which("tar")} "$@"
    status=$?
    case "$*" in *' -cf - .') ;; *) exit $status ;; esac
    [ ! -e '{grown}' ] || exit $status
    : >'{grown}' && echo more >>{shlex.quote(str(wire.source / "log"))}
    echo 'tar: ./log: file changed as we read it' >&2
    exit 1
    """
    wire.has_another("tar", growing)
    if wire.shell.startswith("busybox"):
        pytest.skip("its shell starts no other `tar`")
    sent = wire.send()
    assert sent.returncode == 0, sent.stderr
    assert grown.exists()
    # It may have been summed before or after.
    assert (wire.volume / "to/log").read_text() in ("line\n" * 100, "line\n" * 100 + "more\n")
    wire.end()


@pytest.mark.parametrize("lacking", ["tar", "find", "cksum"])
def test_an_image_that_lacks_a_program_is_told_at_once(tmp_path: Path, lacking: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "mkdir", "mkfifo", "mv", "rm", "tar", "find", "cksum"):
        if name != lacking:
            (programs / name).symlink_to(str(shutil.which(name)))
    far = FAR.replace("cd /cube ", f"cd '{tmp_path}' ")
    argv = [str(programs / "sh"), "-c", 'eval "$CUBE_FAR"', "far", "receive", "streams", "control", "--", "all"]
    environment = {"PATH": str(programs), "CUBE_FAR": far}
    received = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=20)
    assert received.returncode == 1
    assert received.stderr == f"the image has no `{lacking}`: see `staging_image`\n"

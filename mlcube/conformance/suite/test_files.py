"""Promise 8: files arrive and come back as they were written, many of them and large ones; what is missing is told."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.outcomes import PERFORMED
from mlcube.errors import MissingOutput
from mlcube.invocation import Invocation, Mount, Parameter, Word

MANY = 10_000
LARGE_BYTES = 1 << 30
_DIGEST = """\
import hashlib
def digest(path):
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            found.update(block)
    return found.hexdigest()
"""


def test_8_symbolic_links_survive(carrier: Carrier) -> None:
    given = carrier.place / "given"
    given.mkdir()
    (given / "real").write_text("r")
    (given / "link").symlink_to("real")
    do = (
        "print(open(sys.argv[1] + '/link').read()); "
        "os.symlink('seen.json', out + '/latest'); os.symlink('no', out + '/no')"
    )
    seen = carrier.perform(
        carrier.invocation(Word("", "/mlcube_io1"), do=do, mounts=(Mount(str(given), "/mlcube_io1"),))
    )
    assert seen.stdout == "r\n", seen
    assert os.readlink(carrier.out / "latest") == "seen.json"
    assert os.readlink(carrier.out / "no") == "no"


def test_8_names_that_are_not_ascii_survive(carrier: Carrier) -> None:
    given = carrier.place / "gegeben"
    given.mkdir()
    (given / "eingang-ü-日").write_text("ü")
    do = "open(out + '/ergebnis-ü-日', 'w').write(open(sys.argv[1] + '/eingang-ü-日').read())"
    carrier.perform(carrier.invocation(Word("", "/mlcube_io1"), do=do, mounts=(Mount(str(given), "/mlcube_io1"),)))
    assert (carrier.out / "ergebnis-ü-日").read_text() == "ü"


def test_8_a_program_comes_back_executable(carrier: Carrier) -> None:
    do = "open(out + '/program', 'w').write('#!/bin/sh'); os.chmod(out + '/program', 0o755)"
    assert carrier.perform(carrier.invocation(do=do)).status == 0
    assert os.access(carrier.out / "program", os.X_OK)
    assert not os.access(carrier.out / "seen.json", os.X_OK)


def test_8_ten_thousand_small_files_come_back(carrier: Carrier) -> None:
    do = f"os.mkdir(out + '/many'); [open(f'{{out}}/many/{{n}}', 'w').write(str(n)) for n in range({MANY})]"
    assert carrier.perform(carrier.invocation(do=do)).status == 0
    assert sorted(int(file.read_text()) for file in Path(carrier.out, "many").iterdir()) == list(range(MANY))


def test_8_ten_thousand_small_files_arrive(carrier: Carrier) -> None:
    given = carrier.place / "given"
    given.mkdir()
    for number in range(MANY):
        (given / str(number)).write_text(str(number))
    do = "print(sum(int(open(f'{sys.argv[1]}/{name}').read()) == int(name) for name in os.listdir(sys.argv[1])))"
    mounts = (Mount(str(given), "/mlcube_io1"),)
    assert carrier.perform(carrier.invocation(Word("", "/mlcube_io1"), do=do, mounts=mounts)).stdout == f"{MANY}\n"


@pytest.mark.skipif(
    not (os.environ.get("CUBE_CONFORMANCE_LARGE") or os.environ.get("CI")), reason="CUBE_CONFORMANCE_LARGE is not set"
)
def test_8_a_file_of_one_gib_arrives_and_comes_back(carrier: Carrier) -> None:
    given = carrier.place / "given"
    given.mkdir()
    with (given / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)
        for place in (0, LARGE_BYTES // 3, LARGE_BYTES - 4096):
            file.seek(place)
            file.write(os.urandom(4096))
    do = _DIGEST + (
        "print(digest(sys.argv[1] + '/large'))\n"
        "with open(out + '/large', 'wb') as file:\n"
        f"    file.truncate({LARGE_BYTES})\n"
        f"    for place in (5, {LARGE_BYTES // 2}, {LARGE_BYTES - 4096}):\n"
        "        file.seek(place)\n"
        "        file.write(os.urandom(4096))\n"
        "print(digest(out + '/large'))"
    )
    mounts = (Mount(str(given), "/mlcube_io1"),)
    invocation = carrier.invocation(Word("", "/mlcube_io1"), do=do, mounts=mounts)
    try:
        seen = carrier.perform(invocation)
        assert seen.stdout.split() == [_digest(given / "large"), _digest(carrier.out / "large")], seen
    finally:
        for path in (given / "large", carrier.out / "large"):
            path.unlink(missing_ok=True)


@PERFORMED
def test_8_a_declared_output_that_is_missing_is_an_error(carrier: Carrier, way: str) -> None:
    assert _wrong(carrier, way, _with_model(carrier, ""))
    assert "`model` is missing" in (carrier.place / "said").read_text()
    there = _with_model(carrier, "open(out + '/model.bin', 'w').write('m')")
    assert carrier.performed(way, there).status == 0


@PERFORMED
@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("os.mkdir(out + '/model.bin')", "is no regular file"),
        ("os.mkfifo(out + '/model.bin')", "is no regular file|is missing"),  # a connection may carry no pipes
        ("os.symlink('/etc/passwd', out + '/model.bin')", "leads out of the place where the task may write"),
    ],
    ids=["directory", "pipe", "link away"],
)
def test_8_an_output_that_is_not_what_was_declared_is_an_error(
    carrier: Carrier, way: str, do: str, reason: str
) -> None:
    assert _wrong(carrier, way, _with_model(carrier, do))
    assert re.search(reason, (carrier.place / "said").read_text())


def _with_model(carrier: Carrier, do: str) -> Invocation:
    model = Parameter(
        name="model",
        direction="output",
        type="file",
        path=str(carrier.out / "model.bin"),
        target="/mlcube_io0/model.bin",
    )
    return carrier.invocation(parameters=(model,), do=do)


def _wrong(carrier: Carrier, way: str, invocation: Invocation) -> bool:
    """Whether it ended as a missing output does; the file `said` gets what the user was told."""
    said = carrier.place / "said"
    if way == "script":
        seen = carrier.script(invocation)
        said.write_text(seen.stderr)
        return seen.status == MissingOutput.status
    with pytest.raises(MissingOutput) as error:
        carrier.perform(invocation)
    said.write_text(str(error.value))
    return True


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            found.update(block)
    return found.hexdigest()

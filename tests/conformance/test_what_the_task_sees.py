"""Promises 1 to 8: words, environment, places, files, user, network."""

import os
from pathlib import Path

import pytest

from mlcube.cube import Secret
from mlcube.errors import MissingOutput
from mlcube.invocation import Mount, Parameter, Word
from tests.conformance.carrier import Carrier

HOSTILE = (
    "plain", "", " ", "a b", "it's", 'say "hi"', "$(id)", "`id`", "$HOME", "${HOME}", "a;b", "a&&b", "a|b", "a,b",
    "a:b", "a=b=c", "*", "~", "-", "--", "--privileged", "-e", "new\nline", "\n", "tab\t", "\\", "\\n", "%s", "100%",
    "#x", "!x", "ü", "日本語", "e\u0301", "{{.}}", "{}", "[a]", "'", '"', "\\'",
)  # fmt: skip

PERFORMED = pytest.mark.parametrize("way", ["perform", "script"])
"""By `cube run`, and by the script that `--dry-run` prints."""


@PERFORMED
def test_1_arguments_arrive_verbatim(carrier: Carrier, way: str) -> None:
    seen = carrier.performed(way, carrier.invocation(*HOSTILE))
    assert seen.status == 0, seen
    assert seen.arguments == HOSTILE


def test_1_paths_in_arguments_lead_to_the_mounted_files(carrier: Carrier) -> None:
    do = "open(sys.argv[1].split('=', 1)[1], 'w').write('here')"
    assert carrier.perform(carrier.invocation(Word("--file=", "/mlcube_io0/f.txt"), do=do)).status == 0
    assert (carrier.out / "f.txt").read_text() == "here"


@PERFORMED
def test_2_environment_arrives_verbatim(carrier: Carrier, way: str) -> None:
    values = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    invocation = carrier.invocation(environment={name: Word(value) for name, value in values.items()})
    seen = carrier.performed(way, invocation)
    assert {name: seen.environment.get(name) for name in values} == values
    assert seen.environment["CUBE_RUN_ID"] == invocation.run_id


def test_2_nothing_of_the_host_s_environment_is_seen(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-host")
    monkeypatch.setenv("PYTHONPATH", "/of-the-host")
    seen = carrier.perform(carrier.invocation())
    assert "of-the-host" not in " ".join(seen.environment.values())
    assert "AWS_SECRET_ACCESS_KEY" not in seen.environment


def test_2_secrets_arrive_and_stand_in_no_plan(carrier: Carrier) -> None:
    secrets = (Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key"))
    do = "print(os.environ['TOKEN'], open(os.environ['KEY_FILE']).read())"
    values = {"TOKEN": "s3cret 'one'", "KEY": "s3cret\ntwo"}
    environment = {"KEY_FILE": Word("", "/run/key")}
    invocation = carrier.invocation(do=do, secrets=secrets, environment=environment)
    seen = carrier.perform(invocation, secrets=values)
    assert seen.stdout == "s3cret 'one' s3cret\ntwo\n", seen
    assert "KEY" not in seen.environment
    prepare, run = carrier.plans(invocation)
    assert "s3cret" not in prepare.script() + run.script() + repr(seen.told)
    assert carrier.remains(invocation) == []


@PERFORMED
def test_3_home_and_temporary_files_are_the_run_s_own(carrier: Carrier, way: str) -> None:
    do = (
        "import tempfile; tempfile.mkstemp(); open(os.path.expanduser('~/x'), 'w'); "
        "print(os.environ['HOME'], tempfile.gettempdir())"
    )
    invocation = carrier.invocation(do=do)
    seen = carrier.performed(way, invocation)
    there = carrier.there(invocation)
    home, temporary = ("/tmp/home", "/tmp") if carrier.contained else (f"{there.scratch}/home", there.scratch)
    assert seen.stdout == f"{home} {temporary}\n", seen
    assert carrier.remains(invocation) == []


@pytest.mark.parametrize(
    "name",
    ["sp ace ", "com,ma", "co:lon", 'qu"ote', "it's", "$HOME", "ü日", "new\nline", "-dash", "a=b", "\\", "%s", "*"],
)
def test_4_any_directory_can_be_mounted(carrier: Carrier, name: str) -> None:
    given = carrier.place / name
    given.mkdir()
    (given / "file").write_text("inside")
    do = "print(open(sys.argv[1]).read())"
    seen = carrier.perform(
        carrier.invocation(Word("", "/mlcube_io1/file"), do=do, mounts=(Mount(str(given), "/mlcube_io1"),))
    )
    assert seen.stdout == "inside\n", seen


def test_4_a_mount_may_lie_in_another(carrier: Carrier) -> None:
    outer, inner = carrier.place / "outer", carrier.place / "outer" / "inner"
    inner.mkdir(parents=True)
    do = "open(sys.argv[1] + '/inner/x', 'w')" if carrier.contained else "open(sys.argv[2] + '/x', 'w')"
    mounts = (Mount(str(outer), "/mlcube_io1"), Mount(str(inner), "/mlcube_io1/inner", "rw"))
    words = (Word("", "/mlcube_io1"), Word("", "/mlcube_io1/inner"))
    assert carrier.perform(carrier.invocation(*words, do=do, mounts=mounts)).status == 0
    assert (inner / "x").exists()


def test_4_a_single_file_can_be_mounted_where_the_cube_says(carrier: Carrier) -> None:
    file = carrier.place / "weights, v1"
    file.write_text("w")
    mounts = (Mount(str(file), "/models/weights"),)
    seen = carrier.perform(
        carrier.invocation(Word("", "/models/weights"), do="print(open(sys.argv[1]).read())", mounts=mounts)
    )
    assert seen.stdout == "w\n", seen


def test_5_what_is_read_only_cannot_be_written(carrier: Carrier) -> None:
    if not carrier.contained:
        pytest.skip("a process without a container writes what its user may write")
    given = carrier.place / "given"
    given.mkdir()
    mounts = (Mount(str(given), "/mlcube_io1"),)
    seen = carrier.perform(carrier.invocation(do="open('/mlcube_io1/x', 'w')", mounts=mounts))
    assert seen.status == 1
    assert "Read-only file system" in seen.stderr
    assert list(given.iterdir()) == []


def test_6_outputs_belong_to_the_caller(carrier: Carrier) -> None:
    do = "os.makedirs(out + '/deep/er'); open(out + '/deep/er/f', 'w').write('x')"
    seen = carrier.perform(carrier.invocation(do=do))
    assert (seen.user, seen.group) == (os.getuid(), os.getgid())
    for path in (carrier.out / "deep", carrier.out / "deep/er/f"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_6_the_task_has_no_capability_that_opens_the_host(carrier: Carrier) -> None:
    if not carrier.contained:
        pytest.skip("a process without a container has what its user has")
    do = "print(*[line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))], sep='')"
    seen = carrier.perform(carrier.invocation(do=do))
    effective = int(seen.stdout.split("CapEff:")[1].split()[0], 16)
    assert effective & ~(1 << 1) == 0, "all but CAP_DAC_OVERRIDE, which only root keeps"
    assert "NoNewPrivs:\t1" in seen.stdout


def test_7_without_network_nothing_is_reached(carrier: Carrier) -> None:
    do = (
        "import socket\n"
        "try: socket.create_connection(('192.0.2.1', 9), timeout=5)\n"
        "except OSError as error: print(error.strerror)"
    )
    invocation = carrier.invocation(network="none", do=do)
    if refusal := carrier.runner.refuses(invocation, carrier.host):
        pytest.skip(f"refused, which is honest: {refusal[0]}")
    assert carrier.perform(invocation).stdout == "Network is unreachable\n"


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
    carrier.perform(carrier.invocation(do="open(out + '/ergebnis-ü-日', 'w').write('ü')"))
    assert (carrier.out / "ergebnis-ü-日").read_text() == "ü"


def test_8_ten_thousand_small_files_come_back(carrier: Carrier) -> None:
    do = "os.mkdir(out + '/many'); [open(f'{out}/many/{n}', 'w').write(str(n)) for n in range(10_000)]"
    assert carrier.perform(carrier.invocation(do=do)).status == 0
    assert sorted(int(file.read_text()) for file in Path(carrier.out, "many").iterdir()) == list(range(10_000))


@PERFORMED
def test_8_a_declared_output_that_is_missing_is_an_error(carrier: Carrier, way: str) -> None:
    model = Parameter(
        name="model",
        direction="output",
        type="file",
        path=str(carrier.out / "model.bin"),
        target="/mlcube_io0/model.bin",
    )
    invocation = carrier.invocation(parameters=(model,))
    if way == "script":
        seen = carrier.script(invocation)
        assert seen.status == 73
        assert "`model` is missing" in seen.stderr
    else:
        with pytest.raises(MissingOutput, match="`model` is missing"):
            carrier.perform(invocation)
    there = carrier.invocation(parameters=(model,), do="open(out + '/model.bin', 'w').write('m')")
    assert carrier.performed(way, there).status == 0

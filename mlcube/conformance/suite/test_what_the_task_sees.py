"""Promises 1 to 7: words, environment, places, user, network."""

import os

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.outcomes import PERFORMED, excepted, unless_refused
from mlcube.cube import Secret
from mlcube.invocation import Mount, Word

HOSTILE = (
    "plain", "", " ", "a b", "it's", 'say "hi"', "$(id)", "`id`", "$HOME", "${HOME}", "a;b", "a&&b", "a|b", "a,b",
    "a:b", "a=b=c", "*", "~", "-", "--", "--privileged", "-e", "new\nline", "\n", "tab\t", "\\", "\\n", "%s", "100%",
    "#x", "!x", "ü", "日本語", "e\u0301", "{{.}}", "{}", "[a]", "'", '"', "\\'",
)  # fmt: skip
HOSTILE_NAMES = (
    "sp ace ", "com,ma", "co:lon", 'qu"ote', "it's", "$HOME", "ü日", "new\nline", "-dash", "a=b", "\\", "%s", "*",
)  # fmt: skip


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


@PERFORMED
def test_2_nothing_of_the_host_s_environment_is_seen(
    carrier: Carrier, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-host")
    monkeypatch.setenv("PYTHONPATH", "/of-the-host")
    seen = carrier.performed(way, carrier.invocation())
    assert seen.status == 0, seen
    assert "of-the-host" not in " ".join(seen.environment.values())
    assert "AWS_SECRET_ACCESS_KEY" not in seen.environment


def test_2_secrets_arrive_and_stand_in_no_plan(carrier: Carrier) -> None:
    secrets = (Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key"))
    do = "print(os.environ['TOKEN'], open(os.environ['KEY_FILE']).read())"
    values = {"TOKEN": "s3cret 'one'", "KEY": "s3cret\ntwo"}
    environment = {"KEY_FILE": Word("", "/run/key")}
    invocation = unless_refused(carrier, carrier.invocation(do=do, secrets=secrets, environment=environment))
    seen = carrier.perform(invocation, secrets=values)
    assert seen.stdout == "s3cret 'one' s3cret\ntwo\n", seen
    assert "KEY" not in seen.environment
    prepare, run = carrier.plans(invocation)
    assert "s3cret" not in prepare.script() + run.script() + repr(seen.told)
    assert carrier.remains(invocation) == []


@PERFORMED
def test_3_home_and_temporary_files_are_the_run_s_own(carrier: Carrier, way: str) -> None:
    do = (
        "import tempfile; made = tempfile.mkstemp()[1]; open(os.path.expanduser('~/x'), 'w'); "
        "print(os.path.dirname(made))"
    )
    invocation = carrier.invocation(do=do)
    seen = carrier.performed(way, invocation)
    temporary = seen.environment["TMPDIR"]
    assert (seen.stdout, seen.environment["HOME"]) == (f"{temporary}\n", f"{temporary}/home"), seen
    if not seen.contained:
        assert temporary == invocation.scratch or invocation.run_id in temporary
        assert not os.path.exists(temporary)
    assert carrier.remains(invocation) == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
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
    mounts = (Mount(str(outer), "/mlcube_io1"), Mount(str(inner), "/mlcube_io1/inner", "rw"))
    words = (Word("", "/mlcube_io1"), Word("", "/mlcube_io1/inner"))
    seen = carrier.perform(carrier.invocation(*words, do="open(sys.argv[2] + '/x', 'w')", mounts=mounts))
    assert seen.status == 0, seen
    assert (inner / "x").exists()


def test_4_a_single_file_can_be_mounted_where_the_cube_says(carrier: Carrier) -> None:
    file = carrier.place / "weights, v1"
    file.write_text("w")
    mounts = (Mount(str(file), "/models/weights"),)
    seen = carrier.perform(
        carrier.invocation(Word("", "/models/weights"), do="print(open(sys.argv[1]).read())", mounts=mounts)
    )
    assert seen.stdout == "w\n", seen


@pytest.mark.parametrize("place", ["/mlcube_io1/new", "/mlcube_io1/old", "/models/weights"])
def test_5_what_is_read_only_cannot_be_written(carrier: Carrier, place: str) -> None:
    given, weights = carrier.place / "given", carrier.place / "weights"
    given.mkdir()
    for file in (given / "old", weights):
        file.write_text("as it was")
    mounts = (Mount(str(given), "/mlcube_io1"), Mount(str(weights), "/models/weights"))
    words = (Word("", place), Word("", "/models/weights"), Word("", "/mlcube_io1"))
    seen = carrier.perform(carrier.invocation(*words, do="open(sys.argv[1], 'w')", mounts=mounts))
    if not seen.contained:
        excepted("a process without a container writes what its user may write")
    assert seen.status == 1, seen
    assert "Read-only file system" in seen.stderr
    assert [file.read_text() for file in (given / "old", weights)] == ["as it was", "as it was"]
    assert [file.name for file in given.iterdir()] == ["old"]


def test_6_outputs_belong_to_the_caller(carrier: Carrier) -> None:
    do = "os.makedirs(out + '/deep/er'); open(out + '/deep/er/f', 'w').write('x')"
    seen = carrier.perform(carrier.invocation(do=do))
    for path in (carrier.out / "deep", carrier.out / "deep/er/f"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    if os.getuid() == 0 and seen.user != 0 and "kubectl" in carrier.subject.executables:
        excepted("the task of root is nobody, because many clusters admit no root; what it wrote is root's")
    assert (seen.user, seen.group) == (os.getuid(), os.getgid())


def test_6_the_task_has_no_capability_that_opens_the_host(carrier: Carrier) -> None:
    do = "print(*[line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))], sep='')"
    seen = carrier.perform(carrier.invocation(do=do))
    if not seen.contained:
        excepted("a process without a container has what its user has")
    effective = int(seen.stdout.split("CapEff:")[1].split()[0], 16)
    assert effective & ~(1 << 1) == 0, "all but CAP_DAC_OVERRIDE, which only root keeps"
    assert "NoNewPrivs:\t1" in seen.stdout


@PERFORMED
def test_7_without_network_nothing_is_reached(carrier: Carrier, way: str) -> None:
    do = (
        "import socket\n"
        "try: socket.create_connection(('192.0.2.1', 9), timeout=5)\n"
        "except OSError as error: print(error.strerror)"
    )
    invocation = unless_refused(carrier, carrier.invocation(network="none", do=do))
    assert carrier.performed(way, invocation).stdout == "Network is unreachable\n"

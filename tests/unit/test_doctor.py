"""What hosts answered, and the checks that are read out of it."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from mlcube import site
from mlcube.asking import ask_all
from mlcube.checking import Checking
from mlcube.runner import Answer, built_in, find
from mlcube_runners import _checks, _checks_placements
from mlcube_runners._checks_images import engine_fact, registry_fact
from mlcube_runners.docker import DockerRunner

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/how-to/look-before-you-run.md").read_text(encoding="utf-8")

DEBIAN = """\
user=1000
name=ada
namespaces=yes
max_user_namespaces=96365
subuid=65536
subgid=65536
newuidmap=yes
newgidmap=yes
fusermount3=yes
fuse=yes
cgroups=v1
shared_memory=24684084 24683664
"""
SINFO = "debug*|up|infinite|idle|1\nlow|up|infinite|idle|1\nold|inact|1:00:00|down*|4\n"
CONFIGURATION = (
    "AccountingStorageEnforce = none\nAccountingStorageType   = accounting_storage/none\nClusterName = test\n"
)


def answered(*changes: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A Debian's answer with some lines changed."""
    keys = {change.partition("=")[0] for change in changes} | set(without)
    lines = [line for line in DEBIAN.splitlines() if line.partition("=")[0] not in keys]
    return {"site": site.SITE.parse(Answer(0, "\n".join([*lines, *changes]), ""))}


def test_a_machine_that_has_all_says_yes() -> None:
    host = answered()
    checks = (site.user_namespaces(host), site.subordinate_ids(host), site.fuse(host), site.shared_memory(host))
    assert {check.verdict for check in checks} == {"yes"}
    assert checks[3].detail == "23.5 GiB are free in /dev/shm"


@pytest.mark.parametrize(
    ("lines", "detail", "mend"),
    [
        (["unprivileged_userns_clone=0"], "only root may make them", "kernel.unprivileged_userns_clone=1"),
        (["max_user_namespaces=0"], "nobody may make them", "user.max_user_namespaces=15000"),
        (["apparmor_restrict_unprivileged_userns=1"], "AppArmor", "apparmor_restrict_unprivileged_userns=0"),
        ([], "the kernel refuses: unshare: unshare failed: Operation not permitted", "inside a container"),
    ],
)
def test_why_there_are_no_user_namespaces(lines: list[str], detail: str, mend: str) -> None:
    check = site.user_namespaces(answered("namespaces=no: unshare: unshare failed: Operation not permitted", *lines))
    assert check.verdict == "no"
    assert detail in check.detail
    assert mend in (check.mend or "")


def test_without_unshare_user_namespaces_are_not_asked() -> None:
    assert site.user_namespaces(answered(without=("namespaces",))).verdict == "not asked"


@pytest.mark.parametrize(
    ("change", "without", "detail"),
    [
        ("subgid=0", (), "`ada` has none in /etc/subgid"),
        ("subuid=", (), "`ada` has none in /etc/subuid"),
        ("cgroups=v2", ("newuidmap",), "`newuidmap` to map them with is not installed"),
    ],
)
def test_subordinate_ids_need_two_files_and_two_programs(change: str, without: tuple[str, ...], detail: str) -> None:
    check = site.subordinate_ids(answered(change, without=without))
    assert (check.verdict, check.detail) == ("no", detail)


@pytest.mark.parametrize(("said", "detail"), [("absent", "there is no /dev/fuse"), ("denied", "you may not use")])
def test_fuse_may_be_absent_or_denied(said: str, detail: str) -> None:
    check = site.fuse(answered(f"fuse={said}"))
    assert check.verdict == "no"
    assert detail in check.detail


def test_shared_memory_may_be_full_or_missing() -> None:
    assert "40 KiB of 62.5 MiB" in site.shared_memory(answered("shared_memory=64000 40")).detail
    assert site.shared_memory(answered(without=("shared_memory",))).verdict == "no"


@pytest.mark.parametrize(
    ("row", "needed", "verdict", "stops"),
    [
        ("workspace\t/w\tyes\t66076292\t15911414\n", None, "yes", None),
        ("workspace\t/w\tyes\t66076292\t15911414\n", 1 << 40, "no", 74),
        ("workspace\t/w\tyes\t500000\t15911414\n", None, "no", None),
        ("workspace\t/w\tyes\t12\t15911414\n", None, "no", 74),
        ("workspace\t/w\tno\t66076292\t15911414\n", None, "no", 74),
        ("workspace\t/w\tyes\t66076292\t3\n", None, "no", 74),
        ("workspace\t/w\tyes\t\t\n", None, "not asked", None),
    ],
)
def test_room_is_told_and_stops_a_run_where_there_is_none(
    row: str, needed: int | None, verdict: str, stops: int | None
) -> None:
    (check,) = site.room({"room": site.parse_room(Answer(0, row, ""))}, needed)
    assert (check.verdict, check.stops) == (verdict, stops)


def test_room_is_asked_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    fact = site.room_fact({"cache": f"{tmp_path}/a'b/ c"})
    (answer,) = ask_all((fact.argv,), timeout_seconds=10)
    place = fact.parse(answer)["cache"]
    assert place["path"] == f"{tmp_path}/a'b/ c"
    assert place["free_bytes"] > 0
    assert place["writable"]


QUOTA = """\
Disk quotas for user ada (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/sda1    {used}  100000  120000              5       0       0
"""


def test_a_quota_says_what_is_left_and_when_it_is_used_up() -> None:
    left = site.quota({"quota": site.QUOTA.parse(Answer(0, QUOTA.format(used="20000"), ""))})
    assert (left.verdict, left.detail) == ("yes", "97.7 MiB are left on /dev/sda1")
    used = site.quota({"quota": site.QUOTA.parse(Answer(1, QUOTA.format(used="120000*"), ""))})
    assert used.verdict == "no"
    assert site.quota({"quota": site.QUOTA.parse(Answer(127, "", "not there"))}).verdict == "not asked"


def test_a_partition_is_told_by_its_nodes() -> None:
    known = _checks_placements.parse_partitions(Answer(0, SINFO, ""))
    assert known["debug"] == {"default": True, "up": True, "limit": "infinite", "nodes": 1}
    assert known["old"] == {"default": False, "up": False, "limit": "1:00:00", "nodes": 0}


@pytest.mark.parametrize(
    ("partition", "verdict", "detail"),
    [
        (None, "yes", "`debug`, 1 node, time limit infinite"),
        ("nosuch", "no", "there is no partition `nosuch`; there are `debug`, `low`, `old`"),
        ("old", "no", "`old` takes no jobs now"),
    ],
)
def test_slurm_s_partition(partition: str | None, verdict: str, detail: str) -> None:
    host = {"slurm": {"version": "22.05.8"}, "partitions": _checks_placements.parse_partitions(Answer(0, SINFO, ""))}
    (check,) = (each for each in _checks_placements.slurm(partition, None, host, ()) if each.name == "partition")
    assert (check.verdict, check.detail) == (verdict, detail)


def test_slurm_s_accounting_and_what_it_says_to_a_job() -> None:
    found = _checks_placements.parse_accounting(Answer(0, CONFIGURATION, ""))
    assert found == {"storage": "none", "enforce": "none"}
    taken = "sbatch: Job 3408 to start at 2026-11-23T22:42:55 using 1 processors on nodes vm in partition debug\n"
    assert _checks_placements.parse_submission(Answer(0, "", taken))["accepted"]
    refused = (
        "sbatch: error: invalid partition specified: nosuch\nallocation failure: Invalid partition name specified\n"
    )
    assert _checks_placements.parse_submission(Answer(1, "", refused)) == {
        "accepted": False,
        "said": "error: invalid partition specified: nosuch",
    }


@pytest.mark.parametrize(
    ("said", "verdict", "detail"),
    [
        ("200", "yes", "`docker.io` has `python:3.11`"),
        ("401", "yes", "`docker.io` answers"),
        ("404", "no", "has no `python:3.11`"),
        ("429", "no", "too often"),
        ("500", "no", "with status 500"),
        ("unasked", "not asked", "neither `curl` nor `wget`"),
        (
            "000curl: (6) Could not resolve host: registry-1.docker.io",
            "no",
            "could not resolve host: registry-1.docker.io",
        ),
    ],
)
def test_what_a_registry_answers(said: str, verdict: str, detail: str) -> None:
    check = registry_fact("python:3.11").parse(Answer(0, f"{said}\n", ""))
    assert check.verdict == verdict
    assert detail in check.detail


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("python", ("registry-1.docker.io", "/v2/library/python/manifests/latest")),
        ("127.0.0.1:5000/a/b:2", ("127.0.0.1:5000", "/v2/a/b/manifests/2")),
        ("example.org/a:1@sha256:00", ("example.org", "/v2/a/manifests/sha256:00")),
    ],
)
def test_a_registry_is_asked_for_the_image(image: str, words: tuple[str, str]) -> None:
    assert registry_fact(image).argv[-2:] == words


def test_an_engine_that_has_the_image_is_a_source() -> None:
    fact = engine_fact("podman", "a:1")
    assert fact.parse(Answer(0, "sha256:00\n", "")).verdict == "yes"
    assert fact.parse(Answer(125, "", "no such image")).verdict == "no"


def test_a_daemon_without_the_toolkit_hands_on_no_gpus() -> None:
    gpus = {"site_gpus": site.GPUS.parse(Answer(0, "visible=all\ndriver=nvidia\ngpu=NVIDIA A100\n", ""))}
    checks = _checks.docker("docker", None, {"docker": {"server": "28.2"}, **gpus})
    (check,) = (each for each in checks if each.name == "gpus")
    assert (check.verdict, check.stops) == ("no", None)
    assert "nvidia-ctk" in (check.mend or "")


def test_a_client_without_a_daemon_is_told_apart_from_no_client() -> None:
    for problem, verdicts in (("missing", ["no", "not asked"]), ("down", ["yes", "no"])):
        host = {"docker": {"problem": problem}, "endpoint": "unix:///nosuch"}
        assert [check.verdict for check in DockerRunner().checks(host)] == verdicts


def test_several_commands_are_asked_at_once_and_the_slow_one_is_left() -> None:
    commands = (("sh", "-c", "echo a; echo b >&2; exit 3"), ("sleep", "60"), ("cube-no-such",))
    first, second, third = ask_all(commands, timeout_seconds=1)
    assert first == Answer(3, "a\n", "b\n")
    assert (second.status, second.error) == (124, "no answer within 1 seconds")
    assert third.status == 127


@pytest.mark.parametrize("name", built_in())
def test_every_runner_brings_checks(name: str) -> None:
    assert issubclass(find(name), Checking)


def told_names() -> set[str]:
    """The name of every check that the code can tell."""
    names = set()
    for path in (ROOT / "mlcube/doctor.py", ROOT / "mlcube/site.py", *(ROOT / "runners/mlcube_runners").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("yes", "no", "not_asked")
            ):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    names.add(first.value)
    return names


def test_every_check_has_its_paragraph() -> None:
    written = set(re.findall(r"^### (.*)$", PAGE, re.MULTILINE))
    by_variable = {"user namespaces", "subordinate ids", "shared memory", "image in engine"}
    rooms = {"workspace", "cache", "state", "temporary files", "image store", "root"}
    assert told_names() >= {"engine", "daemon", "registry", "quota", "submission"}
    assert written == told_names() | by_variable | rooms

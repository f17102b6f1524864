"""A task on several nodes at once, on a real Slurm of two (see `tests/engines/slurm-pair.sh`)."""

import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_slurm_jobs import Cluster, ended
from tests.conftest import PAIR

pytestmark = [pytest.mark.engine("slurm-pair"), pytest.mark.engine("local")]

TWO = "-Ptasks.act.resources.nodes=2"
RANK = "rank = int(os.environ['CUBE_RANK']); "
TELL = """\
import json
names = ("CUBE_RUN_ID", "SLURMD_NODENAME", "HOME", "TMPDIR")
known = {name: value for name, value in os.environ.items() if name in names or "RANK" in name or "NODE" in name
         or "MASTER" in name or "WORLD" in name}
json.dump(known, open(words["out"] + "/rank-" + os.environ["RANK"], "w"))
"""
MEET = """\
import socket
master = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    with socket.create_server(("", master[1])) as server:
        server.settimeout(30)
        server.accept()[0].sendall(b"from the first")
else:
    for _ in range(100):
        try:
            print("got", socket.create_connection(master).recv(99).decode())
            break
        except OSError:
            time.sleep(0.1)
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    with open(os.path.join(tempfile.gettempdir(), f"cube-tests-{os.getuid()}-slurm-pair"), "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        cluster = Cluster(tmp_path)
        cluster.environment["SLURM_CONF"] = PAIR
        yield cluster


def test_each_rank_knows_itself_and_the_others(pair: Cluster) -> None:
    status, _, errors = pair.run(TELL, TWO)
    assert status == 0, errors
    first, second = (json.loads((pair.cube / f"workspace/out/rank-{rank}").read_text()) for rank in (0, 1))
    alike = {"CUBE_WORLD_SIZE": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "PET_NNODES": "2"}
    for rank, known in (("0", first), ("1", second)):
        assert known.items() >= {"CUBE_RANK": rank, "RANK": rank, "PET_NODE_RANK": rank, **alike}.items()
        for address, port in (
            ("CUBE_MASTER_ADDRESS", "CUBE_MASTER_PORT"),
            ("MASTER_ADDR", "MASTER_PORT"),
            ("PET_MASTER_ADDR", "PET_MASTER_PORT"),
        ):
            assert (known[address], known[port]) == (os.uname().nodename.split(".")[0], first["MASTER_PORT"])
    assert first["CUBE_RUN_ID"] == second["CUBE_RUN_ID"]
    assert first["HOME"] != second["HOME"]
    assert first["TMPDIR"] != second["TMPDIR"]


def test_the_others_reach_the_first_where_they_are_told_it_is(pair: Cluster) -> None:
    status, out, errors = pair.run(MEET, TWO)
    assert (status, out) == (0, "1: got from the first\n"), errors


def test_the_status_is_that_of_the_rank_that_failed_first(pair: Cluster) -> None:
    begun = time.monotonic()
    status, _, errors = pair.run(f"{RANK}rank and sys.exit(3); time.sleep(60)", TWO)
    assert status == 3, errors
    assert "rank 1 of 2 ended with status 3, and the others were stopped" in errors
    assert time.monotonic() - begun < 40


def test_who_interrupts_it_stops_every_rank(pair: Cluster) -> None:
    told = "lambda *_: (open(f'{words[\"out\"]}/told-{rank}', 'w'), sys.exit(4))"
    run = pair.start(f"{RANK}import signal; signal.signal(15, {told}); print('begun', flush=True); time.sleep(60)", TWO)
    assert run.stdout
    assert sorted(run.stdout.readline() for _ in range(2)) == ["0: begun\n", "1: begun\n"]
    os.kill(run.pid, signal.SIGINT)
    status, _, errors = ended(run)
    assert status == 130, errors
    assert {path.name for path in (pair.cube / "workspace/out").glob("told-*")} == {"told-0", "told-1"}


def test_a_rank_that_does_not_listen_is_ended_all_the_same(pair: Cluster) -> None:
    note = "open(words['out'] + f'/process-{rank}', 'w').write(str(os.getpid()))"
    begun = time.monotonic()
    deaf = f"{RANK}import signal; signal.signal(15, signal.SIG_IGN); {note}; time.sleep(60)"
    status, _, errors = pair.run(deaf, TWO, "--timeout=2s")
    assert status == 124, errors
    assert time.monotonic() - begun < 30
    processes = [(pair.cube / f"workspace/out/process-{rank}").read_text() for rank in (0, 1)]
    for _ in range(50):
        if not any(Path("/proc", process).exists() for process in processes):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {processes}")


def test_secrets_reach_every_rank_and_their_files_go(pair: Cluster) -> None:
    pair.environment["KEY"] = "s3 cret"
    wait = "[time.sleep(0.1) for _ in range(99) if len(os.listdir(words['out'])) < 3]"
    look = "print(os.environ['KEY'] == 's3 cret', os.path.exists(os.environ['HOME'] + '/../../../secrets'))"
    do = f"{RANK}open(words['out'] + f'/{{rank}}', 'w'); {wait}; {look}"
    status, out, errors = pair.run(do, TWO, "-Ptasks.act.secrets=[KEY]")
    assert status == 0, errors
    assert sorted(out.splitlines()) == ["0: True False", "1: True False"]

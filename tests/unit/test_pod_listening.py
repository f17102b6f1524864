"""What cube does in a pod, where every look is a long way off: the others' words are heard."""

import os
import re
import shutil
import subprocess
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from mlcube.job import JOB
from mlcube_runners._kubernetes_far import FAR
from mlcube_runners._kubernetes_sending import SENDING
from mlcube_runners._slurm_job import SCHEDULER

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]


@pytest.mark.parametrize("script", [FAR, SENDING, JOB, SCHEDULER], ids=["far", "sending", "job", "scheduler"])
def test_no_function_takes_the_place_of_another_one(script: str) -> None:
    defined = Counter(re.findall(r"^(\w+)\(\)", script, re.MULTILINE))
    assert [name for name, times in defined.items() if times > 1] == []


def summed(content: bytes) -> str:
    done = subprocess.run(["cksum"], input=content, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


class Pod:
    """The volume of a run, and the words of its containers."""

    def __init__(self, place: Path, shell: str) -> None:
        self.volume = place / "volume"
        self.volume.mkdir()
        programs = place / "programs"
        programs.mkdir()
        (programs / "sleep").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 20\n")
        (programs / "sleep").chmod(0o755)
        far = FAR.replace("cd /cube ", f"cd {self.volume} ")
        self.argv = [*(["busybox"] if shell == "busybox" else []), "sh" if shell == "busybox" else shell]
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "CUBE_FAR": far}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        argv = [*self.argv, "-c", 'eval "$CUBE_FAR"', "far", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe)

    def task(self, script: str) -> subprocess.Popen[bytes]:
        begin = f'cd {self.volume}; echo $$ >streams/process; command exec 9<>streams/alive; exec "$@"'
        return subprocess.Popen([*self.argv, "-c", begin, "sh", "sh", "-c", script])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pod_receives_and_tells_the_end_without_a_look(tmp_path: Path, shell: str) -> None:
    pod = Pod(tmp_path, shell)
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.add(tmp_path / "file", "./a file")
    before = time.monotonic()
    with pod.start("receive", "streams", "control", "to", "--", "all") as receive:
        with pod.start("unpack", "to") as unpack:
            said, complaints = unpack.communicate((tmp_path / "archive").read_bytes(), timeout=15)
            assert (unpack.returncode, complaints) == (0, b"")
        assert said.decode().splitlines() == [f"{summed(b'content')} ./a file", ".", "done"]
        with pod.start("begin") as begin:
            assert begin.communicate(timeout=15) == (b"done\n", b"")
        assert receive.communicate(timeout=15) == (b"", b"")
    assert (pod.volume / "to" / "a file").read_text() == "content"
    with pod.task("exec /bin/sleep 0.7") as task, pod.start("follow", "stdout", "0", "") as follow:
        task.wait()  # as the first process of a container would
        assert follow.communicate(timeout=15) == (b"", b"over 0\n")
    assert time.monotonic() - before < 15
    assert list((pod.volume / "control").glob("words.*")) == []

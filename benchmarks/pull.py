"""What `cube pull` costs beside `oras pull`: 2 GiB of weights in 4 files and 5,000 small ones.

    python benchmarks/pull.py [--registry 127.0.0.1:5000] [--mebibytes 2048] [--files 5000] [--rounds 3]

It needs a registry that takes what it is given without a login, and `oras` on PATH or in
`$ENGINES_STATE/witnesses/bin`.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from weights import write_weights

WITNESSES = os.path.join(os.environ.get("ENGINES_STATE", "/var/tmp/mlcube-engines"), "witnesses", "bin")
REST_SECONDS = 65.0
"""ext4 passes over, one by one, what was removed within the last minute before it finds a place for a new file."""
CUBE_FILE = "name: weighty\ndocker: {image: 'example/weighty:1'}\ntasks: {train: {}}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", default="127.0.0.1:5000")
    parser.add_argument("--mebibytes", type=int, default=2048)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cube-pull-") as name:
        folder = Path(name)
        make_cube(folder / "cube", given.mebibytes, given.files)
        print(json.dumps(measure(folder, given.registry, given.rounds), indent=2))
        subprocess.run(["chmod", "-R", "u+w", name], check=True)


def make_cube(root: Path, mebibytes: int, count: int) -> None:
    (root / "small").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(CUBE_FILE)
    write_weights(root, mebibytes)
    for number in range(count):
        (root / "small" / f"{number}.txt").write_bytes(os.urandom(2048).hex().encode())


def measure(folder: Path, registry: str, rounds: int) -> dict[str, object]:
    oras = shutil.which("oras") or os.path.join(WITNESSES, "oras")
    cube = [sys.executable, "-m", "mlcube"]
    repository = f"{registry}/benchmark-pull-{uuid.uuid4().hex[:8]}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE_", "PYTHON"))}
    environment = {**inherited, "CUBE_CACHE_DIR": str(folder / "cache"), "CUBE_STATE_DIR": str(folder / "state")}
    reference = f"oci://{repository}:1"
    run([*cube, "publish", "--no-image", str(folder / "cube"), reference], environment)
    names = sorted(each.name for each in (folder / "cube").iterdir())
    run([oras, "push", "--plain-http", f"{repository}:oras", *names], environment, folder / "cube")
    shutil.rmtree(folder / "cache", ignore_errors=True)
    rest()
    times: dict[str, list[float]] = {"cube": [], "oras": [], "again": []}
    peak = 0
    for _ in range(rounds):
        target = folder / "oras"
        target.mkdir()
        times["oras"].append(run([oras, "pull", "--plain-http", f"{repository}:oras"], environment, target)[0])
        shutil.rmtree(target)
        rest()
        seconds, memory = run([*cube, "pull", reference], environment)
        times["cube"].append(seconds)
        peak = max(peak, memory)
        times["again"] += [run([*cube, "pull", reference], environment)[0] for _ in range(5)]
        subprocess.run(["chmod", "-R", "u+w", str(folder / "cache")], check=True)
        shutil.rmtree(folder / "cache")
        rest()
    median = {name: statistics.median(found) for name, found in times.items()}
    return {
        "oras pull, seconds": round(median["oras"], 2),
        "cube pull, seconds": round(median["cube"], 2),
        "ratio": round(median["cube"] / median["oras"], 2),
        "cube pull again, seconds": round(median["again"], 3),
        "peak memory of cube pull, MiB": peak >> 20,
        "all": {name: [round(each, 2) for each in found] for name, found in times.items()},
    }


def rest() -> None:
    """Let the disk have what was written, and forget what was removed."""
    os.sync()
    time.sleep(REST_SECONDS)


def run(argv: list[str], environment: dict[str, str], directory: Path | None = None) -> tuple[float, int]:
    """Seconds, and the most memory that the process had at once."""
    begun = time.monotonic()
    process = subprocess.Popen(argv, env=environment, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`{' '.join(argv)}` failed with status {process.returncode}")
    return time.monotonic() - begun, memory_of(usage)


def memory_of(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss << 10


if __name__ == "__main__":
    main()

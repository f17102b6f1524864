"""Measures bundles against what somebody would do without: `tar` of the same bytes, `sha256sum` of the same file.

    python benchmarks/bundles.py [--mebibytes 2048] [--files 5000] [--runs 3]

Both of a pair are run in turn, each with what it reads in the page cache, and on a disk that has nothing left to write;
the figure is the median of the ratios.
Exits with 1 when one is over its reach.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from weights import write_weights

ROOT = Path(__file__).resolve().parent.parent
YAML = "name: large\nversion: '1.0'\npython: {source: src}\ntasks: {nothing: {entrypoint: 'true'}}\n"
CREATE_REACH, VERIFY_REACH = 1.2, 1 / 0.8


def make(folder: Path, mebibytes: int, files: int) -> None:
    """Weights in four files that nothing compresses, and small files."""
    (folder / "src").mkdir(parents=True)
    (folder / "mlcube.yaml").write_text(YAML)
    write_weights(folder, mebibytes)
    for number in range(files):
        place = folder / "src" / f"{number // 100:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number:05}.py").write_bytes(os.urandom(2048).hex().encode())


def seconds(*argv: str, cwd: Path, environment: dict[str, str]) -> float:
    """How long a command takes."""
    begun = time.monotonic()
    subprocess.run(argv, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begun


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mebibytes", type=int, default=2048)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE_", "PYTHON"))}
    environment = dict(inherited, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'runners'}")
    cube = (sys.executable, "-m", "mlcube")
    creates, verifies, tars, sums = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="cube-bundles-", dir=os.environ.get("TMPDIR")) as directory:
        place = Path(directory)
        for name in ("cache", "config", "state"):
            environment[f"CUBE_{name.upper()}_DIR"] = str(place / name)
        make(place / "large", options.mebibytes, options.files)
        create_words = ("bundle", "create", "large", "-o", "m.cube", "--without-tool", "--platform", "local")
        for number in range(options.runs + 1):
            # Each gets the memory that its last one gives back: what lies free for long must come from the host again.
            (place / "m.tar").unlink(missing_ok=True)
            os.sync()
            tar = seconds("tar", "-cf", "m.tar", "large", cwd=place, environment=environment)
            (place / "m.cube").unlink(missing_ok=True)
            os.sync()
            create = seconds(*cube, *create_words, cwd=place, environment=environment)
            shasum = seconds("sha256sum", "m.cube", cwd=place, environment=environment)
            verify = seconds(*cube, "bundle", "verify", "m.cube", cwd=place, environment=environment)
            if number:  # the first warms up
                creates.append(create / tar)
                verifies.append(verify / shasum)
                tars.append(tar)
                sums.append(shasum)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    created, verified = statistics.median(creates), statistics.median(verifies)
    rows = (("create", created, "tar", CREATE_REACH, tars), ("verify", verified, "sha256sum", VERIFY_REACH, sums))
    for what, ratio, against, reach, taken in rows:
        print(f"bundle {what}  {ratio:5.2f} x {against:9}  (reach {reach:.2f}; {statistics.median(taken):.2f} s)")
    print(f"memory, most   {peak:5.0f} MiB")
    return int(created > CREATE_REACH or verified > VERIFY_REACH)


if __name__ == "__main__":
    sys.exit(main())

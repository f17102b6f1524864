"""Measures `cube publish` against `oras push` of the same: 2 GiB in 4 files, and 5,000 small ones.

    python benchmarks/publish.py [--runs N] [--size MIB] [--registry HOST] [--json FILE]

Exits with 1 when a figure is over its reach, and with 2 without `oras` or a registry (tests/engines/registry.sh).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from processes import Call, Failed, sample, spread
from weights import write_weights

ORAS = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/witnesses/bin/oras"
CUBE = """\
name: large
docker: {image: 'example/none:1'}
tasks: {train: {parameters: {inputs: {weights: weights/}, outputs: {model: model/}}}}
"""
FILES, SMALL_FILES = 4, 5000
FIRST_REACH, CHANGE_SECONDS, CHANGE_BYTES = 1.1, 1.5, 1 << 20
_FRESH_SECONDS = 2.5
"""Digests of what was written a moment ago are not remembered: nobody publishes that fast."""


class Publishing:
    """A cube with large and small files, in a directory of its own."""

    def __init__(self, directory: Path, registry: str, mib: int) -> None:
        self.directory, self.registry = directory, registry
        self.cube = directory / "large"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE_", "PYTHON"))}
        places = {f"CUBE_{name}_DIR": str(directory / name.lower()) for name in ("CACHE", "CONFIG", "STATE")}
        self.environment: Mapping[str, str] = {**inherited, **places}
        (self.cube / "weights").mkdir(parents=True)
        (self.cube / "src").mkdir()
        (self.cube / "mlcube.yaml").write_text(CUBE)
        write_weights(self.cube / "weights", mib, FILES)
        for number in range(SMALL_FILES):
            size = 4000 + 6000 * number // SMALL_FILES
            (self.cube / "src" / f"module{number:04}.py").write_bytes(os.urandom(size))
        time.sleep(_FRESH_SECONDS)

    def publish(self, repository: str, *words: str) -> Call:
        """`cube publish`, started as users start it."""
        script = os.path.join(os.path.dirname(sys.executable), "cube")
        command = (script,) if os.path.exists(script) else (sys.executable, "-m", "mlcube")
        place = f"oci://{self.registry}/{repository}:1"
        return Call(
            argv=(*command, "publish", str(self.cube), place, "--no-image", *words), environment=self.environment
        )

    def push(self, repository: str) -> Call:
        """The same files by hand."""
        parts = [f"weights/weights-{number}.bin" for number in range(FILES)]
        return Call(
            argv=(ORAS, "push", "--plain-http", f"{self.registry}/{repository}:1", *parts, "src", "mlcube.yaml"),
            environment=self.environment,
            directory=str(self.cube),
        )

    def first(self) -> tuple[float, float]:
        """Seconds of a first publication, with nothing known of any file, and of the same by hand."""
        shutil.rmtree(self.directory / "cache", ignore_errors=True)
        os.sync()  # what the registry still has to write would hold up the next
        ours = sample(self.publish(f"benchmark/{uuid.uuid4().hex}")).wall
        os.sync()
        return ours, sample(self.push(f"benchmark/{uuid.uuid4().hex}")).wall

    def change(self, repository: str) -> tuple[float, int]:
        """Seconds and bytes of a publication after a line of code was changed."""
        changed = self.cube / "src" / f"module{uuid.uuid4().int % SMALL_FILES:04}.py"
        changed.write_bytes(changed.read_bytes() + b"# a line\n")
        call = self.publish(repository, "--json")
        begun = time.perf_counter()
        done = subprocess.run(call.argv, env=call.environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise Failed(done.stderr)
        return seconds, int(json.loads(done.stdout)["sent_bytes"])


def main() -> int:
    """Measure, print a table and give the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="how many of each (5)")
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="the large files together (2048)")
    parser.add_argument("--registry", default="127.0.0.1:5000", metavar="HOST")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if not os.path.exists(ORAS):
        sys.stderr.write("`oras` is not here: tests/engines/witnesses.sh\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="cube-benchmarks-") as directory:
        cases = Publishing(Path(directory), given.registry, given.size)
        cases.first()
        firsts = [cases.first() for _ in range(given.runs)]
        repository = f"benchmark/{uuid.uuid4().hex}"
        sample(cases.publish(repository))
        changes = [cases.change(repository) for _ in range(given.runs)]
    ratio = spread([ours / theirs for ours, theirs in firsts])
    seconds = spread([each for each, _ in changes])
    largest = max(size for _, size in changes)
    ours, theirs = (spread([pair[index] for pair in firsts])[1] for index in (0, 1))
    rows = [
        ("publish", "`oras push`, wall", FIRST_REACH, ratio, f"{ours:.2f} / {theirs:.2f} s"),
        ("publish after a change", "seconds", CHANGE_SECONDS, seconds, ""),
    ]
    for name, against, reach, (low, middle, high), medians in rows:
        verdict = "ok" if middle <= reach else "OVER"
        print(f"{name:24} {against:20} <= {reach:<5} {middle:.3g} ({low:.3g} to {high:.3g})  {medians:16} {verdict}")
    print(f"{'sent after a change':24} {'bytes':20} <  {CHANGE_BYTES} {largest}")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"ratio": ratio, "change_seconds": seconds, "change_bytes": largest, "pairs": firsts}, file)
    return 0 if ratio[1] <= FIRST_REACH and seconds[1] <= CHANGE_SECONDS and largest < CHANGE_BYTES else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"what was to be measured does not work: {failed}")

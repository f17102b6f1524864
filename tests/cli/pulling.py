"""What the tests of pulling share: a published cube, and `cube` as it is started by hand."""

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

PORT = 5000
CUBE_FILE = """\
name: pulled
version: "1.2"
python: {version: ">=3.10"}
tasks:
  train:
    entrypoint: python3 src/train.py
    parameters:
      inputs: {data: {type: file, default: data.txt}}
      outputs: {out: {type: file, default: out.txt}}
"""
TRAIN = "import sys; open(dict(w.split('=', 1) for w in sys.argv[2:])['--out'], 'w').write('trained')\n"


def cube(
    *words: str, cwd: Path | None = None, status: int = 0, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`cube` with these words, which must end with this status."""
    argv = [sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **(variables or {})}, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def make_cube(root: Path, *, weights: int = 700_000, small: int = 40) -> Path:
    """A cube with large files and small ones."""
    (root / "src").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(CUBE_FILE)
    (root / "src" / "train.py").write_text(TRAIN)
    for number in range(small):
        (root / "src" / f"part{number}.txt").write_text(f"part {number}\n" * 50)
    for number in range(2):
        (root / f"weights{number}.bin").write_bytes(os.urandom(weights))
    return root


def publish(root: Path, **variables: str) -> str:
    """`host/name` of the cube, which has the tag `1.2`."""
    repository = f"127.0.0.1:{PORT}/test-pull-{uuid.uuid4().hex[:12]}"
    cube("publish", str(root), f"oci://{repository}:1.2", variables=variables)
    return repository


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""

    def content(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return content(one) == content(other)

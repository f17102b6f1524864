"""Weights as models have them, as far as it matters to whoever carries them: large files that nothing compresses."""

import os
from pathlib import Path

__all__ = ["write_weights"]


def write_weights(folder: Path, mebibytes: int, files: int = 4) -> None:
    """So much in files of the same size, in a folder that is there."""
    for number in range(files):
        with (folder / f"weights-{number}.bin").open("wb") as file:
            file.writelines(os.urandom(1 << 20) for _ in range(mebibytes // files))

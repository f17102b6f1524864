"""Descriptors of Boutiques: the script that a command line becomes, run by a shell."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from mlcube.importing import convert


def run(folder: Path, line: str, value: str, **output: object) -> str:
    """What the task writes to its output, where it is given a value."""
    descriptor = {
        "name": "x",
        "command-line": line,
        "container-image": {"type": "docker", "image": "a/b"},
        "inputs": [{"id": "input", "type": "String", "value-key": "[INPUT]"}],
        "output-files": [{"id": "out", "value-key": "[OUT]", **output}],
    }
    (folder / "boutiques.json").write_text(json.dumps(descriptor))
    draft = convert(str(folder / "boutiques.json"))
    assert not draft.notes
    environment = {**os.environ, "CUBE_INPUT_INPUT": value, "CUBE_OUTPUT_OUT": str(folder / "out")}
    subprocess.run(draft.data["tasks"]["run"]["entrypoint"], env=environment, cwd=folder, check=True)
    return (folder / "out").read_text()


@pytest.mark.parametrize("key", ["[OUT]", '"[OUT]"', "'[OUT]'", './"[OUT]"'])
@pytest.mark.parametrize("template", ["out.txt", "[INPUT].txt", "a b.txt"])
def test_the_key_of_an_output_is_its_path(key: str, template: str, tmp_path: Path) -> None:
    assert run(tmp_path, f"echo [INPUT] > {key}", 'a "b" $c', **{"path-template": template}) == 'a "b" $c\n'


@pytest.mark.parametrize("separator", [None, "="])
def test_the_key_of_an_output_with_a_flag_is_both(separator: str | None, tmp_path: Path) -> None:
    written = {"path-template": "out.txt", "command-line-flag": "--out"}
    written |= {"command-line-flag-separator": separator} if separator else {}
    told = run(tmp_path, "printf '%s\\n' [OUT] [INPUT] | tee out.txt", "x", **written)
    assert told == ("--out=out.txt\nx\n" if separator else "--out\nout.txt\nx\n")


def test_a_key_that_is_nobodys_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"`\[OTHER\]` in the command line is no `value-key` of an input or out"):
        run(tmp_path, "echo [OTHER] > [OUT]", "x", **{"path-template": "out.txt"})

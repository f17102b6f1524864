"""Faults of MLCube's command line that must not come back, by their numbers in the list of what users met.

`cube` runs as a process of its own, on a Python cube and the `local` platform.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CUBE = """\
name: shown
python: {version: ">=3.10", source: src, entrypoint: python main.py}
tasks:
  first:
    parameters:
      inputs: {data: {type: file, default: data.txt}, word: {type: string, default: none}}
      outputs: {seen: {type: file, default: seen.json}}
  second:
    parameters:
      inputs: {seen: {type: file, default: seen.json}}
      outputs: {copy: {type: file, default: copy.json}}
"""
MAIN = """\
import json, os, sys
words = dict(word[2:].split("=", 1) for word in sys.argv[2:])
target = words.get("copy") or words["seen"]
json.dump({"argv": sys.argv[1:], "environment": dict(os.environ)}, open(target, "w"))
sys.exit(int(os.path.exists(words.get("data", "") + ".fail")))
"""


@pytest.fixture
def cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cube that writes what it sees, in a folder with a hostile name."""
    root = tmp_path / "my cube's; folder"
    (root / "src").mkdir(parents=True)
    (root / "workspace").mkdir()
    (root / "mlcube.yaml").write_text(CUBE)
    (root / "src" / "main.py").write_text(MAIN)
    (root / "workspace" / "data.txt").write_text("data\n")
    monkeypatch.chdir(root)
    return root


def call(*words: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlcube", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **(environment or {})},
    )


def seen(root: Path, name: str = "seen.json") -> Any:
    return json.loads((root / "workspace" / name).read_text())


@pytest.mark.engine("local")
def test_f1_no_value_reaches_a_shell(cube: Path) -> None:
    word = "x;touch PWNED; $(touch PWNED) `touch PWNED` 'a b\" \\"
    done = call("run", "--task=first", "--platform=local", f"word={word}")
    assert done.returncode == 0, done.stderr
    assert seen(cube)["argv"][2] == f"--word={word}"
    assert not list(cube.rglob("PWNED"))


@pytest.mark.engine("local")
def test_f1_the_script_of_a_dry_run_quotes_what_a_shell_would_take(cube: Path) -> None:
    script = call("run", "--task=first,second", "--platform=local", "word=$(touch PWNED);'", "--dry-run").stdout
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--word=$(touch PWNED);'" in seen(cube)["argv"]
    assert seen(cube, "copy.json")["argv"][0] == "second"
    assert not list(cube.rglob("PWNED"))


@pytest.mark.engine("local")
def test_the_script_of_a_dry_run_ends_with_the_tasks_status(cube: Path) -> None:
    (cube / "workspace" / "data.txt.fail").touch()
    script = call("run", "--task=first,second", "--platform=local", "--dry-run").stdout
    assert subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=120).returncode == 1
    assert not (cube / "workspace" / "copy.json").exists()


@pytest.mark.engine("local")
def test_a_dry_run_writes_nothing(cube: Path, private_home: Path) -> None:
    before = sorted(cube.rglob("*"))
    assert call("run", "--task=first", "--platform=local", "--dry-run").returncode == 0
    assert sorted(cube.rglob("*")) == before
    assert list(private_home.rglob("*")) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--platfrom=singularity"], "did you mean `--platform`?"),
        (["dta=/etc/hostname"], "did you mean `data`?"),
        (["--data=/etc/hostname"], "data=VALUE"),
        (["-Pdockr.image=1"], "did you mean `docker`?"),
        (["-P", "dockr.image=1"], "did you mean `docker`?"),
        (["-P=dockr.image=1"], "did you mean `docker`?"),
        (["-p", "dockr.image=1"], "did you mean `docker`?"),
        (["-Ptasks.frist.entrypoint=x"], "did you mean `first`?"),
        (["--mount=r"], "`ro`"),
        (["--nosuchflag"], "nosuchflag"),
        (["word"], "name=value"),
        (["--gpus=foo"], "all"),
        (["--platform=dockr"], "did you mean `docker`?"),
    ],
)
def test_f3_nothing_misspelt_runs_with_defaults(cube: Path, words: list[str], hint: str) -> None:
    done = call("run", "--task=first", *words)
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (cube / "workspace" / "seen.json").exists()


@pytest.mark.parametrize("value", ["docker.image=local/hello:1", "docker.cpu_args=--help"])
def test_f6_an_override_is_never_taken_for_flags(cube: Path, value: str) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace("python:", "docker: {image: a}\n#"))
    done = call("run", "--task=first", f"-P{value}", "--dry-run", "--platform=docker")
    assert "Usage" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\t- b", "mlcube.yaml:2:1: error: a tab cannot indent YAML"),
        ("a: {b", "error: this is no YAML"),
        ("", "a cube file is a mapping with `tasks`; this is empty"),
        ("taks: {a: {}}", "did you mean `tasks`?"),
        ("tasks: [a]", "mlcube.yaml:1:1: error: this is a cube of the layout of 2020"),
        ("tasks: 3", "mlcube.yaml:1:8: error"),
        ("- a", "this is a list"),
        ("docker: {image: a}\ntasks: {a: {parameters: {inputs: {x: 10}}}}", "mlcube.yaml:2:"),
    ],
)
def test_f9_a_broken_file_gets_a_sentence_with_its_place(cube: Path, text: str, message: str) -> None:
    (cube / "mlcube.yaml").write_text(text)
    for words in (["check"], ["run", "--task=a"], ["describe"]):
        done = call(*words)
        assert done.returncode == 2, done
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_f9_there_is_no_cube(tmp_path: Path) -> None:
    done = call("run", "--mlcube", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (66, "")
    assert "there is no cube at" in done.stderr


@pytest.mark.engine("local")
def test_f9_a_failing_task_is_one_line_and_its_own_status(cube: Path) -> None:
    (cube / "workspace" / "data.txt.fail").touch()
    done = call("run", "--task=first,second", "--platform=local")
    assert done.returncode == 1
    assert "task `first` failed with status 1" in done.stderr
    assert "hint: what it printed: cube runs log " in done.stderr
    assert not (cube / "workspace" / "copy.json").exists()


@pytest.mark.engine("local")
def test_f10_an_equals_sign_in_a_value_survives(cube: Path) -> None:
    (cube / "workspace" / "a=b.txt").write_text("data\n")
    done = call("run", "--task=first", "--platform=local", "data=a=b.txt", "word==x==")
    assert done.returncode == 0, done.stderr
    assert seen(cube)["argv"][1].endswith("/a=b.txt")
    assert seen(cube)["argv"][2] == "--word==x=="


@pytest.mark.engine("local")
def test_tasks_are_trimmed_repeated_and_all_checked_first(cube: Path) -> None:
    done = call("run", "--task= first , second ", "--task=nosuch", "--platform=local")
    assert done.returncode == 2
    assert not (cube / "workspace" / "seen.json").exists()
    done = call("run", "--task= first ,", "--task=second", "--platform=local")
    assert done.returncode == 0, done.stderr
    assert seen(cube, "copy.json")["argv"][0] == "second"


@pytest.mark.engine("local")
def test_a_task_finds_what_the_one_before_it_wrote_into_a_directory(cube: Path) -> None:
    text = CUBE.replace(
        "{seen: {type: file, default: seen.json}}\n  second", "{seen: {type: directory, default: out/}}\n  second"
    )
    (cube / "mlcube.yaml").write_text(
        text.replace(
            "inputs: {seen: {type: file, default: seen.json}}", "inputs: {seen: {type: file, default: out/seen.json}}"
        )
    )
    (cube / "src" / "main.py").write_text(MAIN.replace('words["seen"]', 'words["seen"] + "/seen.json"'))
    done = call("run", "--task=first,second", "--platform=local")
    assert done.returncode == 0, done.stderr
    assert seen(cube, "copy.json")["argv"][1].endswith("/out/seen.json")


def test_without_a_task_the_choice_is_shown(cube: Path) -> None:
    done = call("run")
    assert done.returncode == 2
    assert "--task first" in done.stderr
    assert "--task second" in done.stderr


@pytest.mark.engine("local")
def test_json_is_all_that_stands_on_stdout(cube: Path) -> None:
    done = call("run", "--task=first", "--platform=local", "--json")
    assert [record["task"] for record in json.loads(done.stdout)["runs"]] == ["first"]
    rehearsed = call("run", "--task=first", "--platform=local", "--dry-run", "--json")
    (run,) = json.loads(rehearsed.stdout)["runs"]
    assert set(run) == {"task", "platform", "invocation", "plan"}
    assert run["invocation"]["arguments"][0] == "first"
    assert run["invocation"]["digest"].startswith("sha256:")
    assert set(run["plan"]) == {"prepare", "run"}


@pytest.mark.engine("local")
def test_the_digest_is_the_same_on_every_platform(cube: Path) -> None:
    digests = set()
    for platform in ("local", "docker"):
        done = call("run", "--task=first", f"--platform={platform}", "--dry-run", "--json")
        digests.add(json.loads(done.stdout)["runs"][0]["invocation"]["digest"])
    assert len(digests) == 1


def test_f16_a_cube_is_never_taken_for_settings(cube: Path) -> None:
    before = (cube / "mlcube.yaml").read_bytes()
    settings = {"MLCUBE_SYSTEM_SETTINGS": str(cube / "mlcube.yaml")}
    for words in (["platforms"], ["config", "--list"], ["config", "--create-platform", "docker", "x"]):
        done = call(*words, environment=settings)
        assert done.returncode == 2
        assert "this is a cube, not settings" in done.stderr
    assert (cube / "mlcube.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["describe"], ["check"], ["config", "--list"], ["runs"]]
)
def test_f16_reading_writes_no_settings(cube: Path, private_home: Path, words: list[str]) -> None:
    assert call(*words).returncode == 0
    assert list(private_home.rglob("*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--create-platform", "nosuch", "x"],
        ["--remove-platform", "nosuch"],
        ["--rename-platform", "nosuch", "x"],
        ["--copy-platform", "nosuch", "x"],
        ["--rename-runner", "nosuch", "x"],
        ["--remove-runner", "nosuch"],
        ["--get", "nosuch"],
        ["--set", "nosuch=1"],
        ["--unset", "nosuch"],
    ],
)
def test_f16_what_fails_in_config_says_so_in_its_status(words: list[str]) -> None:
    done = call("config", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2 if "hint" in done.stderr else -1]


def test_a_needed_secret_is_asked_for_before_anything_starts(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace("  first:\n", "  first:\n    secrets: [TOKEN]\n"))
    done = call("run", "--task=first", "--platform=local")
    assert done.returncode == 2
    assert "the secret `TOKEN` is not given" in done.stderr
    assert not (cube / "workspace" / "seen.json").exists()


@pytest.mark.engine("local")
@pytest.mark.parametrize("given", ["environment", "file"])
def test_a_secret_reaches_the_task_and_is_kept_nowhere(cube: Path, private_home: Path, given: str) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace("  first:\n", "  first:\n    secrets: [TOKEN]\n"))
    (cube.parent / "token").write_text("hush-hush\n")
    words = [f"--secret=TOKEN={cube.parent / 'token'}"] if given == "file" else []
    environment = {"TOKEN": "hush-hush"} if given == "environment" else {}
    done = call("run", "--task=first", "--platform=local", "--json", *words, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "secrets passed to the task: TOKEN" in done.stderr
    assert seen(cube)["environment"]["TOKEN"] == "hush-hush"
    kept = [path.read_bytes() for path in private_home.rglob("*") if path.is_file()]
    assert not any(b"hush-hush" in each for each in (*kept, done.stdout.encode(), done.stderr.encode()))


@pytest.mark.parametrize("words", [["--log_level", "debug", "describe"], ["show_config"], ["show-config", "--resolve"]])
def test_spellings_of_mlcube_keep_working(cube: Path, words: list[str]) -> None:
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert "shown" in done.stdout


@pytest.mark.engine("local")
def test_one_failure_inside_cube_is_a_sentence_with_status_70(cube: Path, tmp_path: Path) -> None:
    package = tmp_path / "sitecustomize.py"
    package.write_text("import mlcube.reading\nmlcube.reading.read_cube = lambda *a, **k: 1 / 0\n")
    done = call("check", environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 70
    assert "this is a bug in cube: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in call("--log-level=debug", "check", environment={"PYTHONPATH": str(tmp_path)}).stderr


def test_whoever_reads_only_the_first_line_sees_no_complaint(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(CUBE + "".join(f"  t{number}: {{}}\n" for number in range(3000)))
    done = subprocess.run(
        f"'{sys.executable}' -m mlcube describe | head -1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "shown\n"
    assert done.stderr == ""

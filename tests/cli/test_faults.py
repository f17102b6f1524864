"""Faults of MLCube's command line that must not come back, by their numbers in the list of what users met.

`cube` runs as a process of its own, on a Python cube and the `local` platform.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


WAITS = """\
import os, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[2:])
here = os.path.dirname(words["seen"])
open(here + "/started.part", "w").write(str(os.getpid()))
os.rename(here + "/started.part", here + "/started")
while not os.path.exists(here + "/go on"):
    time.sleep(0.05)
open(words["seen"], "w").write("done")
"""


def start(*words: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "mlcube", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)


def once_there(path: Path) -> str:
    """What a file says, as soon as it is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)
    return path.read_text()


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


def test_f3_a_word_that_is_no_parameter_is_taken_for_a_cube_and_both_are_told(cube: Path) -> None:
    done = call("run", "--task=first", "word")
    assert done.returncode == 66
    assert "there is no cube at `word`" in done.stderr
    assert "name=value" in done.stderr
    assert not (cube / "workspace" / "seen.json").exists()


DOCKER = CUBE.replace("python:", "docker: {image: a/b:1}\n#")


def task_words(*words: str) -> list[str]:
    """The command by which a task would be run in Docker."""
    done = call("run", "--task=first", "--dry-run", "--json", *words)
    assert done.returncode == 0, done.stderr
    steps: list[dict[str, list[str]]] = json.loads(done.stdout)["runs"][0]["plan"]["run"]
    (argv,) = (step["argv"] for step in steps if step.get("argv", [])[:2] == ["docker", "run"])
    return argv


def test_f2_safety_flags_are_honoured_on_a_platform_of_any_name(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER.replace("default: data.txt", "default: data.txt, opts: rw"))
    assert call("config", "--create-platform", "docker", "mine").returncode == 0
    asked = ("--network=none", "--memory=64m", "--mount=ro", "--cpu=1", "--security=label=disable")
    words = task_words("--platform=mine", *asked)
    assert {"--network=none", "--memory=67108864", "--cpus=1", "--security-opt=label=disable"} <= set(words)
    assert f"--mount=type=bind,source={cube}/workspace,target=/mlcube_io0" in words  # an output lies there too
    (cube / "workspace" / "in").mkdir()
    (cube / "workspace" / "in" / "data.txt").touch()
    words = task_words("--platform=mine", *asked, "data=in/data.txt")
    assert f"--mount=type=bind,source={cube}/workspace/in,target=/mlcube_io0,readonly" in words


@pytest.mark.engine("local")
def test_f4_a_directory_reaches_another_workspace(cube: Path, tmp_path: Path) -> None:
    (cube / "mlcube.yaml").write_text(
        CUBE.replace("{type: file, default: data.txt}", "{type: directory, default: in/}")
    )
    (cube / "workspace" / "in" / "deep").mkdir(parents=True)
    (cube / "workspace" / "in" / "deep" / "x").write_text("x")
    done = call("run", "--task=first", "--platform=local", f"--workspace={tmp_path}/other")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "other" / "seen.json").read_text())
    assert told["argv"][1] == f"--data={tmp_path}/other/in"
    assert (tmp_path / "other" / "in" / "deep" / "x").read_text() == "x"


def test_f5_an_entrypoint_of_one_word_keeps_the_arguments(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER.replace("  first:\n", "  first:\n    entrypoint: /bin/echo\n"))
    words = task_words("--platform=docker")
    assert "--entrypoint=/bin/echo" in words
    assert words[words.index("a/b:1") + 1 :] == [
        "--data=/mlcube_io0/data.txt",
        "--word=none",
        "--seen=/mlcube_io0/seen.json",
    ]


@pytest.mark.parametrize(
    "words", [["-Pdocker.image=local/hello:1"], ["-P", "docker.image=local/hello:1"], ["-p=docker.image=local/hello:1"]]
)
def test_f6_an_override_is_never_taken_for_flags(cube: Path, words: list[str]) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER)
    told = task_words("--platform=docker", *words)
    assert told[-5:-3] == ["local/hello:1", "first"]


@pytest.mark.engine("local")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_f7_an_interrupt_leaves_no_task_behind(cube: Path, number: signal.Signals) -> None:
    (cube / "src" / "main.py").write_text(WAITS)
    running = start("run", "--task=first", "--platform=local")
    task = int(once_there(cube / "workspace" / "started"))
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert not Path(f"/proc/{task}").exists()


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


@pytest.mark.parametrize("words", [["--gpus=foo"], ["--memory=lots"], ["--cpu=x"], ["--timeout=soon"], ["--user=me"]])
def test_f11_a_wrong_need_is_told_in_words(cube: Path, words: list[str]) -> None:
    done = call("run", "--task=first", *words)
    flag, _, value = words[0].partition("=")
    assert done.returncode == 2
    assert f"`{flag}`" in done.stderr
    assert f"`{value}`" in done.stderr


@pytest.mark.parametrize("value", ["missing.txt", "nowhere/missing.txt"])
def test_f12_an_input_that_is_missing_is_told_and_nothing_is_made_in_its_place(cube: Path, value: str) -> None:
    before = sorted(cube.rglob("*"))
    done = call("run", "--task=first", "--platform=docker", f"data={value}")
    assert done.returncode in (2, 66)
    assert "input `data`" in done.stderr
    assert sorted(cube.rglob("*")) == before


def test_f13_a_file_outside_the_workspace_is_mounted_alone_and_read_only(cube: Path, private_home: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER)
    (private_home / "x.txt").touch()
    for path in ("/etc/hostname", "~/x.txt"):
        whole = os.path.expanduser(path)
        mounts = [word for word in task_words("--platform=docker", f"data={path}") if word.startswith("--mount=")]
        of_host = [word for word in mounts if f"source={os.path.dirname(whole)}" in word and "/runs/" not in word]
        assert of_host == [f"--mount=type=bind,source={whole},target=/mlcube_io0/{os.path.basename(whole)},readonly"]


def test_f14_outputs_belong_to_the_caller(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER)
    assert {f"--user={os.getuid()}:{os.getgid()}", "--cap-drop=ALL"} <= set(task_words("--platform=docker"))


def test_f15_no_container_outlives_its_task(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER)
    assert {"--rm", "--init", "--name"} <= set(task_words("--platform=docker"))


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


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("name: shown", "nmae: shown"),
        ("tasks:", "platfrom: {accelerator_count: 8}\ntasks:"),
        ("    parameters:\n      inputs: {data", "    paramters:\n      inputs: {data"),
    ],
)
def test_f18_a_misspelt_key_is_told_and_suggested(cube: Path, right: str, wrong: str) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace(right, wrong, 1))
    checked, ran = call("check"), call("run", "--task=first", "--platform=docker", "--dry-run")
    assert checked.returncode == 2
    for done, severity in ((checked, "error"), (ran, "warning")):
        assert f"{severity}: unknown key `{wrong.partition(':')[0].strip()}`" in done.stderr
        assert "hint: did you mean" in done.stderr


@pytest.mark.parametrize("broken", ["missing", "down"])
def test_f19_an_engine_that_cannot_be_used_is_not_taken_for_a_missing_image(
    cube: Path, tmp_path: Path, broken: str
) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER)
    docker = tmp_path / "my-docker"
    if broken == "down":
        docker.write_text(
            f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/asked'\necho Cannot connect to the daemon >&2\nexit 1\n"
        )
        docker.chmod(0o755)
    done = call("run", "--task=first", "--platform=docker", f"-Prunner.executable={docker}")
    assert done.returncode == 69
    assert ("is not installed" if broken == "missing" else "does not answer") in done.stderr
    assert "pull" not in done.stderr + ((tmp_path / "asked").read_text() if broken == "down" else "")


@pytest.mark.engine("local")
def test_f20_two_runs_never_write_the_same_output_at_once(cube: Path) -> None:
    (cube / "src" / "main.py").write_text(WAITS)
    running = start("run", "--task=first", "--platform=local", "--json")
    once_there(cube / "workspace" / "started")
    second = call("run", "--task=first", "--platform=local")
    (cube / "workspace" / "go on").touch()
    first, _ = running.communicate(timeout=60)
    assert (running.returncode, second.returncode) == (0, 75)
    assert json.loads(first)["runs"][0]["id"] in second.stderr


@pytest.mark.engine("local")
def test_a_variable_that_engine_arguments_ask_for_is_left_out_without_consent(cube: Path, tmp_path: Path) -> None:
    (cube / "mlcube.yaml").write_text(f"docker: {{cpu_args: -e TOKEN}}\n{CUBE}")
    asked = ("run", "--task=first", "--platform=local")
    done = call(*asked, environment={"TOKEN": "hush-hush"})
    assert done.returncode == 0, done.stderr
    assert "TOKEN" not in seen(cube)["environment"]
    assert "warning: the cube's engine arguments ask for your variable `TOKEN`; it is left out" in done.stderr
    assert call(*asked, "--trust", environment={"TOKEN": "hush-hush"}).returncode == 0
    assert seen(cube)["environment"]["TOKEN"] == "hush-hush"
    (tmp_path / "token").write_text("of the file")
    assert call(*asked, f"--secret=TOKEN={tmp_path}/token", environment={"TOKEN": "hush-hush"}).returncode == 0
    assert seen(cube)["environment"]["TOKEN"] == "of the file"


@pytest.mark.engine("local")
def test_an_environment_is_inspected_and_configured_without_a_run(cube: Path, private_home: Path) -> None:
    text = CUBE.replace(", entrypoint: python main.py", "").replace(
        "    parameters", "    entrypoint: python main.py\n    parameters"
    )
    (cube / "mlcube.yaml").write_text(text)
    done = call("inspect", "--platform=local")
    assert done.returncode == 74
    assert "is not on local" in done.stderr
    done = call("configure", "--platform=local")
    assert done.returncode == 0, done.stderr
    done = call("inspect", "--platform=local")
    assert json.loads(done.stdout)["id"].startswith("sha256:")
    assert list(private_home.rglob("runs")) == []


def test_what_is_built_of_far_folders_needs_consent(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(DOCKER.replace("a/b:1}", "a/b:1, build_context: /, build_file: etc/hostname}"))
    for words in (["configure"], ["run", "--task=first"], ["inspect", "--force"]):
        done = call(*words, "--platform=docker")
        assert done.returncode == 77
        assert "which lies neither in the cube nor beside it" in done.stderr


def test_an_override_of_an_item_is_shown_where_it_belongs(cube: Path) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace('version: ">=3.10"', "requirements: [numpy, scipy]"))
    done = call("show-config", "-Ppython.requirements.1=pandas", "--json")
    assert json.loads(done.stdout)["python"]["requirements"] == ["numpy", "pandas"]


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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.mkdir(), "it is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (lambda path: path.write_bytes(b"x" * ((1 << 20) + 1)), "it is larger than 1 MiB"),
        (lambda path: path.write_bytes(b"a\0b"), "it is no text"),
        (lambda path: path.write_bytes(b"\xff"), "it is no text"),
        (lambda path: None, "no such file or directory"),
    ],
)
def test_the_file_of_a_secret_is_a_text_of_at_most_one_mebibyte(
    cube: Path, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace("  first:\n", "  first:\n    secrets: [KEY]\n"))
    make(tmp_path / "secret")
    done = call("run", "--task=first", "--platform=local", f"--secret=KEY={tmp_path}/secret")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: the secret `KEY` cannot be read from `{tmp_path}/secret`: {reason}\n",
    )


@pytest.mark.engine("local")
def test_a_secret_is_given_once_and_may_be_as_large_as_is_allowed(cube: Path, tmp_path: Path) -> None:
    (cube / "mlcube.yaml").write_text(CUBE.replace("  first:\n", "  first:\n    secrets: [KEY]\n"))
    (tmp_path / "secret").write_text("hunter22\n")
    given = f"--secret=KEY={tmp_path}/secret"
    assert "the secret `KEY` is given twice" in call("run", "--task=first", given, given).stderr
    assert call("run", "--task=first", "--platform=local", given).returncode == 0
    assert seen(cube)["environment"]["KEY"] == "hunter22"


@pytest.mark.engine("local")
def test_a_run_that_fails_midway_says_so_in_its_document(cube: Path) -> None:
    (cube / "src" / "main.py").write_text("")
    done = call("run", "--task=first", "--platform=local", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["error"]["status"]) == (73, 73)
    assert document["error"]["problems"][0]["message"] in done.stderr

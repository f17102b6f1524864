"""What each command imports: starting fast is a feature, and one careless import at the top undoes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "dataclasses",
    "inspect",
    "importlib.metadata",
    "jinja2",
    "json",
    "logging",
    "omegaconf",
    "requests",
    "rich",
    "sqlite3",
    "ssl",
    "tempfile",
    "urllib.request",
}
if sys.version_info < (3, 11):
    HEAVY.remove("inspect")  # msgspec imports it there

COUNT = (
    "import sys, atexit;"
    "atexit.register(lambda: open({file!r}, 'w').write(chr(10).join(sys.modules)));"
    "sys.argv = {argv!r};"
    "from mlcube.cli import main; main()"
)


def imported(tmp_path: Path, *words: str) -> set[str]:
    """The modules that a command has imported at its end."""
    file = tmp_path / "modules"
    program = COUNT.format(file=str(file), argv=["cube", *words])
    # Coverage, where it measures the processes that tests start, would import modules of its own there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True, env=environment)
    return set(file.read_text().split())


@pytest.fixture
def cube(tmp_path: Path) -> str:
    folder = tmp_path / "cube"
    folder.mkdir()
    (folder / "mlcube.yaml").write_text("docker: {image: a:1}\ntasks: {hello: {}}\n")
    return str(folder)


def test_the_version_imports_nothing_but_the_package(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--version")
    assert sorted(name for name in modules if name.startswith("mlcube")) == ["mlcube", "mlcube.cli"]
    assert not modules & {"typer", "msgspec", "yaml", "typing", "re"}


def test_help_imports_no_command(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")
    commands = {name for name in modules if name.startswith("mlcube.cli.")}
    machinery = ("application", "console", "declared", "direct", "interruption", "outcome", "streams", "strict")
    assert commands == {f"mlcube.cli.{name}" for name in machinery}
    assert not modules & {"yaml", "rich", "mlcube.reading"}


def test_check_imports_the_reader_and_nothing_that_runs(tmp_path: Path, cube: str) -> None:
    modules = imported(tmp_path, "check", cube)
    assert modules & HEAVY == set()
    assert not modules & {"mlcube.execute", "mlcube.running", "mlcube.settings", "mlcube.runner", "mlcube_runners"}


def test_omegaconf_is_imported_only_for_references(tmp_path: Path, cube: str) -> None:
    (Path(cube) / "mlcube.yaml").write_text("name: a\ndocker: {image: '${name}:1'}\ntasks: {hello: {}}\n")
    assert "omegaconf" in imported(tmp_path, "check", cube)


def test_a_run_imports_its_runner_alone_and_nothing_heavy(tmp_path: Path, cube: str) -> None:
    modules = imported(tmp_path, "run", "--mlcube", cube, "--platform", "docker", "--dry-run")
    runners = {name for name in modules if name.startswith("mlcube_runners.") and "._" not in name}
    assert runners == {"mlcube_runners.docker"}
    assert modules & HEAVY == set()


def test_what_is_run_most_does_without_the_parser(tmp_path: Path, cube: str) -> None:
    assert "typer" not in imported(tmp_path, "check", cube)
    assert "typer" not in imported(
        tmp_path, "run", "--mlcube", cube, "--task=hello", "--platform", "docker", "--dry-run"
    )


def test_every_command_has_help_that_ends_with_an_example() -> None:
    from mlcube.cli.application import COMMANDS

    for name in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "mlcube", name, "--help"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert f"    cube {name}" in done.stdout.partition("Example")[2], name


def test_json_documents_are_json(cube: str) -> None:
    of_cube = (["check"], ["describe"], ["describe", "--origins"], ["show-config"])
    for words in (*([*words, "--mlcube", cube] for words in of_cube), ["platforms"], ["runs"], ["config", "--list"]):
        done = subprocess.run(
            [sys.executable, "-m", "mlcube", *words, "--json"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)

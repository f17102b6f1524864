"""Facts are asked once, until anything changes on which they depend."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlcube import directories, host
from mlcube.runner import Answer, Fact
from tests.unit.shell_runner import ShellRunner


class AskingRunner(ShellRunner, frozen=True, kw_only=True):
    requires: ClassVar[tuple[str, ...]] = ("sh",)

    asked: tuple[Fact, ...] = ()

    def facts(self) -> tuple[Fact, ...]:
        return self.asked


def status_and_output(answer: Answer) -> Any:
    return [answer.status, answer.output]


def counting(tmp_path: Path, **more: Any) -> tuple[AskingRunner, Path]:
    """A runner whose question leaves a trace each time that it is really asked."""
    trace = tmp_path / "trace"
    argv = ("sh", "-c", f'echo x >>{trace}; echo "${{WHERE-}}"')
    return AskingRunner(asked=(Fact(name="count", argv=argv, parse=status_and_output, **more),)), trace


def times(trace: Path) -> int:
    return len(trace.read_text().splitlines())


def test_an_answer_is_remembered(tmp_path: Path) -> None:
    runner, trace = counting(tmp_path)
    assert host.gather(runner) == {"count": [0, "\n"]}
    assert host.gather(runner) == {"count": [0, "\n"]}
    assert times(trace) == 1


def test_it_is_asked_again_on_demand(tmp_path: Path) -> None:
    runner, trace = counting(tmp_path)
    host.gather(runner)
    host.gather(runner, fresh=True)
    assert times(trace) == 2


def test_it_is_asked_again_after_ten_minutes(tmp_path: Path) -> None:
    runner, trace = counting(tmp_path)
    host.gather(runner)
    (remembered,) = Path(directories.cache(), "facts").iterdir()
    text = remembered.read_text()
    stamp = text.split('"time":')[1].split(",")[0]
    remembered.write_text(text.replace(stamp, str(time.time() - 601)))
    host.gather(runner)
    assert times(trace) == 2


def test_it_is_asked_again_when_a_variable_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, trace = counting(tmp_path, environment=("WHERE",))
    host.gather(runner)
    monkeypatch.setenv("WHERE", "elsewhere-secret")
    assert host.gather(runner) == {"count": [0, "elsewhere-secret\n"]}
    assert times(trace) == 2


def test_it_is_asked_again_when_a_file_changes(tmp_path: Path) -> None:
    runner, trace = counting(tmp_path, files=("~/settings.json",))
    host.gather(runner)
    (tmp_path / "home" / "settings.json").write_text("{}")
    host.gather(runner)
    assert times(trace) == 2


def test_a_failure_is_not_remembered(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    fact = Fact(name="count", argv=("sh", "-c", f"echo x >>{trace}; exit 1"), parse=status_and_output)
    for _ in range(2):
        assert host.gather(AskingRunner(asked=(fact,))) == {"count": [1, ""]}
    assert times(trace) == 2


def test_a_missing_executable_is_a_fact_too() -> None:
    fact = Fact(name="engine", argv=("no-such-engine",), parse=lambda answer: answer.status)
    assert host.gather(AskingRunner(asked=(fact,))) == {"engine": 127}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"time": "x"}', b"[]"])
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    runner, trace = counting(tmp_path)
    host.gather(runner)
    for remembered in Path(directories.cache(), "facts").iterdir():
        remembered.write_bytes(content)
    assert host.gather(runner) == {"count": [0, "\n"]}
    assert times(trace) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBE_CACHE_DIR", "/proc/nowhere")
    runner, _ = counting(tmp_path)
    assert host.gather(runner) == {"count": [0, "\n"]}


def test_no_variables_value_stands_in_the_cache_unless_the_answer_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    fact = Fact(name="quiet", argv=("true",), parse=status_and_output, environment=("TOKEN",))
    host.gather(AskingRunner(asked=(fact,)))
    (remembered,) = Path(directories.cache(), "facts").iterdir()
    assert "s3cret" not in remembered.name + remembered.read_text()


def test_the_machine_is_described() -> None:
    found = host.describe()
    assert found["name"] == os.uname().nodename
    assert found["cpus"] >= 1
    assert found["memory_bytes"] > 1 << 20

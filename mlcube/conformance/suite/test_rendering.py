"""Promises 15 to 17 without an engine: what is refused, that rendering is pure, that plans and facts are data."""

import os
import sys
from typing import Any

import msgspec
import pytest

from mlcube.conformance.outcomes import unless_refused
from mlcube.conformance.rendering import Rendering
from mlcube.conformance.subject import Subject
from mlcube.cube import Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Plan
from mlcube.runner import Answer

NEEDS: dict[str, dict[str, Any]] = {
    "memory": {"resources": Resources(memory_bytes=2 << 30)},
    "processors": {"resources": Resources(cpus=2)},
    "half a processor": {"resources": Resources(cpus=0.5)},
    "certain processors": {"resources": Resources(cpu_set="0")},
    "shared memory": {"resources": Resources(shared_memory_bytes=1 << 40)},  # a little is there unasked
    "two nodes": {"resources": Resources(nodes=2)},
    "gpus": {"resources": Resources(gpus=1)},
    "a certain GPU": {"resources": Resources(gpus=("99",))},
    "no network": {"network": "none"},
    "a network": {"network": "of-the-user"},
    "the user of the image": {"user": "image"},
    "security options": {"security": ("label=disable",)},
    "a directory": {"directory": "/mlcube_io0"},
    "a mount": {"mounts": (Mount("/data/of ada", "/data"),)},
    "a secret": {"secrets": (Secret(name="TOKEN"),)},
    "a secret in a file": {"secrets": (Secret(name="TOKEN", mount="/run/token"),)},
}
ANSWERS = {
    "not there": Answer(127, "", "sh: 1: not found"),
    "failed": Answer(1, "", "boom"),
    "too slow": Answer(124, "", "no answer"),
    "nothing": Answer(0, "", ""),
    "an empty document": Answer(0, "{}", ""),
    "no document": Answer(0, "null\n[1, 2", ""),
    "garbage": Answer(0, "\x00\x1e\t=:,/\n\ufffd 1e999 -1\n", "\x1b[31m"),
}

_TOUCHING = ("open", "os.listdir", "os.scandir", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_watched: list[list[str]] = []
"""While there is a list in it, it gets what is done that rendering must not do."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in _TOUCHING:
        _watched[0].append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.mark.parametrize("changes", NEEDS.values(), ids=NEEDS)
def test_15_what_is_asked_stands_in_the_plan_or_is_refused(rendering: Rendering, changes: dict[str, Any]) -> None:
    plain = rendering.invocation()
    asked = msgspec.structs.replace(plain, **changes)
    assert rendering.runner.refuses(plain, rendering.host) is None
    if rendering.refusal(asked) is None:
        assert rendering.runner.run(asked, rendering.host) != rendering.runner.run(plain, rendering.host)


def test_15_a_task_without_an_image_is_refused_with_what_to_do(rendering: Rendering) -> None:
    invocation = rendering.invocation(python=None, image=None)
    assert rendering.refusal(invocation)
    with pytest.raises(Refused):
        rendering.plans(invocation)


def test_15_where_it_cannot_be_used_it_says_why_and_what_to_do(subject: Subject) -> None:
    reason = subject.runner.unusable(subject.poor_host())
    assert reason is not None
    message, hint = reason
    assert message
    assert hint


def test_16_rendering_reads_no_file_clock_or_environment(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    invocation = rendering.invocation("a", Word("--x=", "/mlcube_io0"))
    expected = _everything(rendering, invocation)  # also imports what is imported late
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    monkeypatch.setattr("time.time", lambda: pytest.fail("rendering looked at the clock"))
    touched: list[str] = []
    _watched.append(touched)
    try:
        rendered = _everything(rendering, invocation)
    finally:
        _watched.clear()
    assert touched == []
    assert rendered == expected


def _everything(rendering: Rendering, invocation: Invocation) -> list[Any]:
    """Whatever a runner says of an invocation."""
    runner, host = rendering.runner, rendering.host
    plans = [render(invocation, host) for render in (runner.prepare, runner.configure, runner.run)]
    identity = runner.identify(invocation, host)
    asked = [fact.argv for fact in (*runner.facts(), *((identity,) if identity else ()))]
    return [*plans, asked, runner.unusable(host), runner.refuses(invocation, host)]


def test_16_a_plan_is_data(rendering: Rendering) -> None:
    for plan in rendering.plans(rendering.invocation("a")):
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_16_a_value_of_a_secret_has_no_place_in_a_plan(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    invocation = unless_refused(rendering, rendering.invocation(secrets=(Secret(name="TOKEN"),)))
    assert b"s3cret" not in b"".join(msgspec.json.encode(plan) for plan in rendering.plans(invocation))


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_17_whatever_is_answered_facts_are_plain_data(subject: Subject, answer: Answer) -> None:
    host = subject.answered(answer)
    assert msgspec.json.decode(msgspec.json.encode(host)) == host
    reason = subject.runner.unusable(host)
    assert reason is None or all(reason)


def test_17_facts_have_names_of_their_own(subject: Subject) -> None:
    names = [fact.name for fact in subject.runner.facts()]
    assert sorted(set(names)) == sorted(names)

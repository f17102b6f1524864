"""Promises 15 to 17: what cannot be honoured is refused, rendering is pure, the digest is the same everywhere."""

import os
import sys
from typing import Any

import msgspec
import pytest

from mlcube.cube import Resources
from mlcube.errors import Refused
from mlcube.invocation import Word
from tests.conformance.carrier import Carrier

_TOUCHING = ("open", "os.listdir", "os.scandir", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_watched: list[list[str]] = []
"""While there is a list in it, it gets what is done that rendering must not do."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in _TOUCHING:
        _watched[0].append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": Resources(memory_bytes=1 << 10)},
        {"resources": Resources(cpus=100_000.0)},
        {"resources": Resources(gpus=("99",))},
        {"python": None, "image": None},
    ],
    ids=["memory", "processors", "gpus", "no image"],
)
def test_15_what_cannot_be_honoured_is_refused_with_what_to_do(carrier: Carrier, changes: dict[str, Any]) -> None:
    invocation = carrier.invocation(**changes)
    refusal = carrier.runner.refuses(invocation, carrier.host)
    assert refusal is not None
    message, hint = refusal
    assert message
    assert hint
    with pytest.raises(Refused) as error:
        carrier.plans(invocation)
    assert error.value.hint == hint


def test_16_rendering_reads_no_file_clock_or_environment(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    invocation = carrier.invocation("a", Word("--x=", "/mlcube_io0"))
    expected = carrier.plans(invocation)  # also imports what is imported late
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    monkeypatch.setattr("time.time", lambda: pytest.fail("rendering looked at the clock"))
    touched: list[str] = []
    _watched.append(touched)
    try:
        rendered = carrier.plans(invocation)
    finally:
        _watched.clear()
    assert touched == []
    assert rendered == expected


def test_16_a_plan_is_data(carrier: Carrier) -> None:
    for plan in carrier.plans(carrier.invocation("a")):
        assert msgspec.json.decode(msgspec.json.encode(plan), type=type(plan)) == plan


def test_17_facts_are_plain_data(carrier: Carrier) -> None:
    assert msgspec.json.decode(msgspec.json.encode(carrier.host)) == carrier.host
    assert carrier.runner.unusable(carrier.host) is None


def test_17_the_image_or_environment_is_identified(carrier: Carrier) -> None:
    from mlcube.execute import ask

    invocation = carrier.invocation()
    carrier.perform(invocation)
    fact = carrier.runner.identify(invocation, carrier.host)
    assert fact is not None
    identity = fact.parse(ask(fact.argv))
    assert identity["id"].startswith("sha256:")

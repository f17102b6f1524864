"""Promises 15 and 17 where the real engine answers: nothing runs with less, and what ran can be identified."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest

from mlcube.asking import ask
from mlcube.conformance.carrier import Carrier
from mlcube.cube import Resources
from mlcube.errors import CubeError, Refused


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
def test_15_what_cannot_be_honoured_is_not_run_with_less(carrier: Carrier, changes: dict[str, Any]) -> None:
    invocation = carrier.invocation(**changes)
    if carrier.refusal(invocation):
        with pytest.raises(Refused):
            carrier.perform(invocation)
    else:  # a limit that the engine takes on, by not starting the task or by ending it
        with suppress(CubeError):
            assert carrier.perform(invocation).status != 0
        assert carrier.remains(invocation) == []
    assert not (carrier.out / "seen.json").exists(), "the task has run"


def test_17_facts_of_this_host_are_plain_data(carrier: Carrier) -> None:
    assert msgspec.json.decode(msgspec.json.encode(carrier.host)) == carrier.host
    assert carrier.runner.unusable(carrier.host) is None


def test_17_the_image_or_environment_is_identified(carrier: Carrier) -> None:
    invocation = carrier.invocation()
    carrier.perform(invocation)
    fact = carrier.runner.identify(invocation, carrier.host)
    assert fact is not None
    identity = fact.parse(ask(fact.argv))
    assert identity["id"].startswith("sha256:")

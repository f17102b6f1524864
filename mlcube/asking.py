"""Asks commands what they say: one, or several at the same time."""

import select
import time
from collections.abc import Mapping, Sequence

from mlcube import patience
from mlcube.child import Child, attend, kill
from mlcube.failures import CannotStart
from mlcube.in_process import answer
from mlcube.plan import Command
from mlcube.runner import Answer
from mlcube.starting import start
from mlcube.stream import Log

__all__ = ["ask", "ask_all"]


def ask(
    argv: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_seconds: float | None = None
) -> Answer:
    """What a command says. A missing executable is an answer too, with status 127; one that is too slow has 124.

    How slow that is, is the user's to say, unless it is given.
    """
    if environment is None and (read := answer(argv)) is not None:
        return Answer(0, read, "")
    timeout_seconds = timeout_seconds or patience.answer_seconds()
    command = Command(argv=tuple(argv), environment=environment or {})
    try:
        child = start(command, Log(None), {}, (None, None), keep=1 << 26)
    except CannotStart as error:
        return Answer(error.status, "", str(error))
    output, errors = child.routes
    try:
        slow = attend(child, deadline=time.monotonic() + timeout_seconds) == "late"
    finally:
        if not child.gone:
            kill(child)
        child.close()
    status = child.reap() if child.gone else 124
    if slow:
        return Answer(124, "", f"`{argv[0]}` gave no answer within {timeout_seconds:g} seconds")
    return Answer(status, output.kept.decode(errors="replace"), errors.kept.decode(errors="replace"))


def ask_all(commands: Sequence[Sequence[str]], *, timeout_seconds: float) -> tuple[Answer, ...]:
    """What several commands say that are asked at the same time; each as `ask` gives it."""
    answers: dict[int, Answer] = {}
    asked: dict[int, Child] = {}
    try:
        for index, argv in enumerate(commands):
            try:
                asked[index] = start(Command(argv=tuple(argv)), Log(None), {}, (None, None), keep=1 << 26)
            except CannotStart as error:  # noqa: PERF203 - each in turn
                answers[index] = Answer(error.status, "", str(error))
        routes = {index: tuple(child.routes) for index, child in asked.items()}
        _attend_all(tuple(asked.values()), time.monotonic() + timeout_seconds)
        for index, child in asked.items():
            if child.gone:
                output, errors = (route.kept.decode(errors="replace") for route in routes[index])
                answers[index] = Answer(child.reap(), output, errors)
            else:
                answers[index] = Answer(124, "", f"no answer within {timeout_seconds:g} seconds")
    finally:
        for child in asked.values():
            if not child.gone:
                kill(child)
            child.close()
    return tuple(answers[index] for index in range(len(commands)))


def _attend_all(children: Sequence[Child], deadline: float) -> None:
    """Carry what they print until all of them have ended, or time is up."""
    while True:
        now = time.monotonic()
        open_ = [child for child in children if not child.finished(now)]
        if not open_ or now >= deadline:
            return
        poller = select.poll()
        waiting = {descriptor: move for child in open_ for descriptor, move in child.register(poller).items()}
        limits = (deadline - now, *(limit for child in open_ if (limit := child.wait_seconds(now)) is not None))
        for descriptor, _ in poller.poll(max(0.0, min(limits)) * 1000 + 1):
            if descriptor in waiting:
                waiting[descriptor]()

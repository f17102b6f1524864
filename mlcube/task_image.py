"""Which image or environment a task runs in: asked while it runs, so that nobody waits for the answer."""

from collections.abc import Mapping
from typing import Any

from mlcube import in_process, record
from mlcube.asking import ask
from mlcube.invocation import Invocation
from mlcube.runner import Answer, Host, Runner

__all__ = ["TaskImage"]


class TaskImage:
    """The image of one task."""

    def __init__(
        self, runner: Runner, invocation: Invocation, facts: Host, known: Mapping[tuple[str, ...], Answer]
    ) -> None:
        self._fact = runner.identify(invocation, facts)
        self._reference = invocation.image
        self._answers: list[Any] = []
        self._thread: Any = None
        if self._fact and self._fact.argv in known:  # preparing has asked the same
            self._answers.append(self._fact.parse(known[self._fact.argv]))

    def ask(self) -> None:
        """Begin to ask, unless it is a file that is to be read."""
        if self._fact and (read := in_process.answer(self._fact.argv)) is not None:
            self._answers = [self._fact.parse(Answer(0, read, ""))]
        elif self._fact and not self._answers:
            import threading

            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()

    def identity(self) -> record.ImageIdentity | None:
        """The answer, as far as there is one."""
        if self._thread:
            self._thread.join(timeout=5)
        answer = self._answers[0] if self._answers else None
        if not isinstance(answer, dict):
            return record.ImageIdentity(reference=self._reference) if self._reference else None
        digests = tuple(answer.get("digests") or ())
        return record.ImageIdentity(reference=self._reference, id=answer.get("id"), digests=digests)

    def _ask(self) -> None:
        if self._fact:
            self._answers.append(self._fact.parse(ask(self._fact.argv, timeout_seconds=5)))

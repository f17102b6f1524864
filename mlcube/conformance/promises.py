"""The promises, by the numbers of docs/reference/conformance.md."""

import re

__all__ = ["PROMISES", "number_of"]

PROMISES = {
    1: "arguments arrive verbatim",
    2: "environment values arrive verbatim, and nothing of the host's is seen",
    3: "HOME and TMPDIR are writable and the run's own",
    4: "any path can be mounted",
    5: "what is read-only cannot be written",
    6: "outputs belong to the caller",
    7: "without network nothing is reached",
    8: "files come back as they were written",
    9: "the status is the task's own",
    10: "limits are what was asked",
    11: "a time limit stops the task",
    12: "a signal stops the task, at every stage",
    13: "nothing accumulates",
    14: "preparing twice does nothing the second time",
    15: "what cannot be honoured is refused",
    16: "rendering is pure",
    17: "facts are plain data",
}
"""What holds for every runner. Further numbers are one runner's own."""


def number_of(test: str) -> int | None:
    """The promise of which a test's name tells.

    >>> number_of("test_9_status_is_the_tasks_own[perform]")
    9
    """
    found = re.match(r"test_(\d+)_", test)
    return int(found[1]) if found else None

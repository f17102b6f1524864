"""Runs the whole suite in this process against one runner."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import pytest

from mlcube.conformance import fixtures
from mlcube.conformance.plugin import Noting
from mlcube.conformance.results import Observation
from mlcube.conformance.subject import Subject
from mlcube.errors import CubeError, Interrupted, UsageError

__all__ = ["run_suite"]

_SUITE = os.path.join(os.path.dirname(__file__), "suite")
_ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
"""What else is installed or configured for other tests is of no meaning here."""


class _Given:
    """Gives the suite its subject."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @pytest.fixture(scope="session")
    def subject(self) -> Subject:
        """The one runner of this run."""
        return self._subject


def run_suite(
    subject: Subject,
    *,
    base_image: str | None = None,
    expression: str | None = None,
    noted: Callable[[Observation, int], None],
) -> Noting:
    """Hold the runner to every promise, or to those whose tests pytest's `expression` chooses.

    Raises UsageError when it chooses none, Interrupted when a signal ended it; nothing is left then.
    """
    place = tempfile.mkdtemp(prefix="cube-conformance-")
    noting = Noting(noted)
    try:
        configuration = os.path.join(place, "pytest.ini")  # so that none of the directory's is looked for
        with open(configuration, "w", encoding="utf-8") as file:
            file.write("[pytest]\n")
        arguments = [_SUITE, "-c", configuration, "--rootdir", place, f"--basetemp={place}/tests"]
        arguments += ["-p", "no:terminal", "-p", "no:cacheprovider"]
        arguments += ["-k", expression] if expression else []
        image = {"CUBE_TEST_IMAGE": base_image} if base_image else {}
        with _environment({**_ALONE, **image}), _raising() as received:
            status = pytest.main(arguments, plugins=[_Given(subject), fixtures, noting])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    match status:
        case pytest.ExitCode.INTERRUPTED:
            number = received[0] if received else signal.SIGINT
            raise Interrupted(number, signal.Signals(number).name)
        case pytest.ExitCode.NO_TESTS_COLLECTED | pytest.ExitCode.USAGE_ERROR:
            raise UsageError(f"`-k {expression}` chooses no test", hint="-k 'test_9_ or test_12_'")
        case pytest.ExitCode.INTERNAL_ERROR:
            raise CubeError("pytest itself failed, before or between the tests", hint="see what it printed")
    return noting


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _raising() -> Iterator[list[int]]:
    """What asks to stop is an end in order, as Ctrl-C is; gives the numbers of the signals that came."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A plugin of pytest that notes what the suite observes: `-p mlcube.conformance.plugin --conformance-results FILE`."""

from collections.abc import Callable, Generator
from typing import Any

import msgspec
import pytest

from mlcube.conformance.outcomes import EXCEPTED, REFUSED
from mlcube.conformance.promises import PROMISES, number_of
from mlcube.conformance.results import Observation, Observations
from mlcube.conformance.subject import Subject
from mlcube.files import write

__all__ = ["Noting", "pytest_addoption", "pytest_configure"]

_PROPERTY = "mlcube.conformance.subject"


class Noting:
    """Notes the outcome of every test of a promise; `noted` is told each, and how many there are to come."""

    def __init__(self, noted: Callable[[Observation, int], None] = lambda _observation, _total: None) -> None:
        self.total = 0
        self.observations: list[Observation] = []
        self.failures: list[tuple[str, str]] = []
        """What is known of each test that failed: its name, and the report."""
        self._noted = noted

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """How many there are."""
        self.total = len(session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note in the report whom it is about, so that it is known also where the test ran in another process."""
        report = yield
        subject = getattr(item, "funcargs", {}).get("subject")
        if isinstance(subject, Subject):
            report.user_properties.append((_PROPERTY, subject.name))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what was found out, once for each test, or at its failure."""
        subject = dict(report.user_properties).get(_PROPERTY)
        name = report.nodeid.rpartition("::")[2]
        promise = number_of(name)
        if subject is None or promise not in PROMISES:
            return
        outcome, reason = _outcome(report)
        if outcome is None:
            return
        if outcome == "broken":
            self.failures.append((name, report.longreprtext))
        observation = Observation(
            subject=str(subject), promise=promise, test=_without(name, str(subject)), outcome=outcome, reason=reason
        )
        self.observations.append(observation)
        self._noted(observation, self.total)

    def results(self) -> Observations:
        """Everything so far, in an order that does not depend on who was first."""
        ordered = sorted(self.observations, key=lambda each: (each.subject, each.promise, each.test))
        return Observations(observations=tuple(ordered))


def _outcome(report: pytest.TestReport) -> tuple[Any, str]:
    """What a report says of the promise; nothing, for a setting up that went well and a tearing down."""
    if report.failed:
        return "broken", ""
    if report.skipped and isinstance(report.longrepr, tuple):
        said = str(report.longrepr[2]).removeprefix("Skipped: ")
        for prefix, outcome in ((REFUSED, "refused"), (EXCEPTED, "excepted")):
            if said.startswith(prefix):
                return outcome, said.removeprefix(prefix)
        return "not asked", said
    return ("kept", "") if report.when == "call" else (None, "")


def _without(name: str, subject: str) -> str:
    """A test's name without the subject among its parameters.

    >>> _without("test_9_status[ssh(docker)-42]", "ssh(docker)"), _without("test_9_status[local]", "local")
    ('test_9_status[42]', 'test_9_status')
    """
    name, _, parameters = name.partition("[")
    kept = parameters.removesuffix("]")
    if kept == subject:
        kept = ""
    kept = kept.removeprefix(f"{subject}-").removesuffix(f"-{subject}")
    return f"{name}[{kept}]" if kept else name


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file to which what was observed is written."""
    parser.addoption("--conformance-results", metavar="FILE", help="write what the tests of promises observed, as JSON")


class _Writing(Noting):
    """Writes it at the end."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def pytest_sessionfinish(self) -> None:
        """Write what was noted."""
        write(self._path, msgspec.json.format(msgspec.json.encode(self.results()), indent=1) + b"\n")


def pytest_configure(config: pytest.Config) -> None:
    """Note what is observed, and write it where there is nobody to whom it is reported."""
    path = config.getoption("--conformance-results")
    if not path:
        return
    worker = hasattr(config, "workerinput")  # with pytest-xdist: the reports of all workers reach the one above them
    config.pluginmanager.register(Noting() if worker else _Writing(path), "mlcube.conformance.noting")

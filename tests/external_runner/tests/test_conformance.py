"""The runner is held to what every runner owes a task."""

import pytest
from mlcube_nice import NiceRunner

from mlcube.conformance import Subject
from mlcube.conformance.suite import *  # noqa: F403
from mlcube.runner import find


@pytest.fixture(scope="session")
def subject() -> Subject:
    return Subject(name="nice(local)", runner=NiceRunner(inner=find("local")(), niceness=15))

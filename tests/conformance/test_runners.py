"""The suite, as the author of any runner imports it; here the fixture `subject` is in `conftest.py`."""

from mlcube.conformance.suite import *  # noqa: F403

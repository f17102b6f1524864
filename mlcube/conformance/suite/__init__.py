"""Every test of the suite, to be imported into a test module of the author's: `from mlcube.conformance.suite import *`.

The module gives a fixture `subject`, a `mlcube.conformance.Subject`. Those of `suite.test_rendering` need no engine.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "test_being_stopped",
            "test_files",
            "test_how_it_ends",
            "test_outliving",
            "test_rendering",
            "test_what_is_refused",
            "test_what_the_task_sees",
        )
    )
)

from mlcube.conformance.fixtures import *  # noqa: E402, F403
from mlcube.conformance.suite.test_being_stopped import *  # noqa: E402, F403
from mlcube.conformance.suite.test_files import *  # noqa: E402, F403
from mlcube.conformance.suite.test_how_it_ends import *  # noqa: E402, F403
from mlcube.conformance.suite.test_outliving import *  # noqa: E402, F403
from mlcube.conformance.suite.test_rendering import *  # noqa: E402, F403
from mlcube.conformance.suite.test_what_is_refused import *  # noqa: E402, F403
from mlcube.conformance.suite.test_what_the_task_sees import *  # noqa: E402, F403

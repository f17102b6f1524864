"""A registry and a machine for tests of trust; whoever asks for neither has none of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.signed import Site, machine_of, signed_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with signed_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Path:
    return machine_of(site, tmp_path / "machine")

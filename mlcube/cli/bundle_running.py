"""A cube that was named by its bundle: what the bundle holds is made available to the platform, and nothing fetched."""

import os

import msgspec

from mlcube.cli import console
from mlcube.cli.naming import Named
from mlcube.settings import read_settings

__all__ = ["provided"]


def provided(named: Named, platform: str | None, *, rehearsal: bool = False) -> tuple[Named, str | None]:
    """The cube with what makes it run from its bundle, and the platform; in a `rehearsal` nothing is loaded."""
    if named.obtained is None or named.obtained.bundle is None:
        return named, platform
    from mlcube.bundling import provide
    from mlcube.signals import catching

    with catching() as signals:
        found = provide(
            named.obtained.bundle,
            platform,
            read_settings(),
            named.obtained.config,
            rehearsal=rehearsal,
            report=console.note,
            check=signals.check,
        )
    # The installers that a runner starts read them, as if the user had set them.
    os.environ.update(found.environment)
    if found.platform is not None:
        console.note(f"chose platform {found.platform}: the bundle is made for it")
    return msgspec.structs.replace(named, overrides=(*named.overrides, *found.overrides)), platform or found.platform

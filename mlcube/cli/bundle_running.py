"""A cube that was named by its bundle: what the bundle holds is made available to the platform, and nothing fetched."""

from contextlib import AbstractContextManager, nullcontext

from mlcube.cli import console
from mlcube.named import Named
from mlcube.settings import read_settings

__all__ = ["keeping", "provided"]


def provided(named: Named, platform: str | None, *, rehearsal: bool = False) -> tuple[Named, str | None]:
    """The cube with what makes it run from its bundle, and the platform; in a `rehearsal` nothing is loaded."""
    if named.obtained is None or named.obtained.bundle is None:
        return named, platform
    from mlcube.signals import catching

    with catching() as signals:
        named, chosen = named.on(
            platform, read_settings(), rehearsal=rehearsal, report=console.note, check=signals.check
        )
    if named.provided.platform is not None:
        console.note(f"chose platform {named.provided.platform}: the bundle is made for it")
    return named, chosen


def keeping(named: Named) -> AbstractContextManager[None]:
    """For a process that was forked off this one and may outlive it: what was brought and provided is not pruned."""
    if named.obtained is None or named.obtained.digest is None:
        return nullcontext()
    from mlcube.store import Store

    given = [named.provided.digest] if named.provided is not None else []
    return Store().using([named.obtained.digest, *given])

"""A cube that was named and is there: how it is read, and what the policy of this machine asks of it, in one order."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlcube.cube import Cube
from mlcube.errors import Problem

if TYPE_CHECKING:
    from mlcube.invocation import Invocation
    from mlcube.obtaining import Obtained
    from mlcube.platforms import Choice
    from mlcube.settings import Settings

__all__ = ["Admitted", "Named", "named_by"]


class Admitted(NamedTuple):
    """A cube that may run as it stands here."""

    cube: Cube
    """With what its signature covers, where the policy asks for one: of packages, those with hashes."""
    warnings: tuple[Problem, ...]
    stated: Cube
    """As its file says, and a lock that it is held to: what is made of it is named after this one."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A cube that is there."""

    path: str
    """What `read_cube` takes."""
    text: str
    """As the user wrote it."""
    overrides: tuple[str, ...] = ()
    """Weaker than the user's own."""
    workspace: str | None = None
    """Where parameters lie; None: in the cube's own workspace."""
    obtained: Any = None
    """The `Obtained`; None: a path."""
    lock: Any = None
    """The `Lock` that `--locked` holds it to."""
    provided: Any = None
    """What its bundle has `Provided` to the platform."""

    @property
    def admission(self) -> Any:
        """The `Admission` of this machine's policy; None: there is none, or it has nothing to say of what this is."""
        return self.obtained.admission if self.obtained is not None else None

    @property
    def wholly_signed(self) -> bool:
        """Whether the packages of a `python:` cube come from a bundle all of which was signed."""
        whole = self.admission is not None and self.admission.whole
        return whole and self.provided is not None and (self.provided.wheels or self.provided.image is not None)

    def on(
        self,
        platform: str | None,
        settings: "Settings",
        *,
        rehearsal: bool = False,
        report: Callable[[str], None] = lambda _message: None,
        check: Callable[[], None] = lambda: None,
    ) -> "tuple[Named, str | None]":
        """With what makes it run from its bundle, where it lies in one, and the platform that this is for.

        In a `rehearsal` nothing is loaded. Installers that a runner starts read this process's environment, in which
        they find what the bundle holds.
        """
        if self.obtained is None or self.obtained.bundle is None:
            return self, platform
        from mlcube.bundling import provide

        found = provide(
            self.obtained.bundle, platform, settings, self.obtained.config,
            rehearsal=rehearsal, report=report, check=check,
        )  # fmt: skip
        os.environ.update(found.environment)
        named = msgspec.structs.replace(self, overrides=(*self.overrides, *found.overrides), provided=found)
        return named, platform or found.platform

    def read(
        self, of_cube: Sequence[str] = (), *, strict: bool = False, trust: bool = False
    ) -> tuple[Cube, tuple[Problem, ...]]:
        """What `read_cube` gives, with what the published cube and the lock say in addition. It is not to be run."""
        from mlcube.reading import read_cube

        cube, warnings = read_cube(
            self.path, overrides=(*self.overrides, *of_cube), workspace=self.workspace, strict=strict, trust=trust
        )
        if self.lock is not None:
            self.lock.check_cube(cube, self.obtained.digest if self.obtained else None)
            if self.admission is None or not self.admission.signed:  # else nobody has signed what the lock says
                cube = self.lock.applied(cube)
        return cube, warnings

    def admitted(self, of_cube: Sequence[str] = (), *, trust: bool = False) -> Admitted:
        """As it may run, be carried away or made available, with what `-P` says.

        Raises Untrusted, before it is read, for what the policy forbids; then for an image that no signature covers.
        """
        if self.obtained is None:  # what was brought here was asked about then; a path is now
            from mlcube.obtaining.admitting import admit_path

            admit_path(self.path)
        elif self.admission is not None:
            from mlcube.trust.covering import check_overrides

            check_overrides(self.admission, of_cube)
        stated, warnings = self.read(of_cube, trust=trust)
        if self.admission is None:
            return Admitted(stated, warnings, stated)
        from mlcube.trust.covering import as_signed, check_image

        check_image(self.admission, stated)
        cube = stated if self.wholly_signed else as_signed(self.admission, stated)
        return Admitted(cube, warnings, stated)

    def check_made(self, invocation: "Invocation", choice: "Choice") -> None:
        """Raises Untrusted for what a platform would make of a `python:` cube out of things that could be any."""
        if self.admission is None:
            return
        from mlcube.trust.covering import check_made

        whole = self.wholly_signed
        given = self.provided.image if whole else None
        check_made(self.admission, invocation, choice.platform.runner, choice.host, whole=whole, given=given)


def named_by(text: str, found: "Obtained", *, workspace: str | None = None, lock: Any = None) -> Named:
    """What a text names that was no plain path."""
    if found.reference.kind == "path":
        return Named(path=found.path, text=text, workspace=workspace, lock=lock)
    return Named(
        path=found.path,
        text=text,
        overrides=found.overrides,
        workspace=workspace or found.workspace,
        obtained=found,
        lock=lock,
    )

"""The cube that the command line names, wherever it lies: brought here if it must be, and told about."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlcube.cli import console
from mlcube.cli.interruption import is_hinted
from mlcube.errors import MissingInput, UsageError
from mlcube.named import Named, named_by

if TYPE_CHECKING:
    from mlcube.obtaining import Obtained
    from mlcube.pinning import Lock

__all__ = ["bring", "cube_of", "split_words"]


def cube_of(
    mlcube: str,
    word: str | None = None,
    *,
    workspace: str | None = None,
    locked: bool = False,
    offline: bool = False,
    told: bool = True,
) -> Named:
    """The cube that `--mlcube` or a word names. What is no path is brought here, unless it is kept already.

    `told`: say where parameters lie, if that is not in the cube.
    """
    if offline:
        from mlcube.offline import set_offline

        set_offline()
    if word is not None and mlcube not in (".", word):
        raise UsageError(f"`{word}` and `--mlcube {mlcube}` both name a cube", hint="leave one of them out")
    text = mlcube if word is None else word
    lock = _lock() if locked else None
    if lock is not None and text == "." and not os.path.exists("mlcube.yaml"):
        text = lock.reference
    if _is_path(text):
        return Named(path=text, text=text, workspace=workspace, lock=lock)
    try:
        found = bring(text, lock=lock)
    except MissingInput as error:
        if word is None or not os.path.exists("mlcube.yaml"):
            raise
        hint = f"a parameter of a task is written name=value; or, for a cube that is not here: {error.hint}"
        raise MissingInput(str(error.args[0]), hint=hint) from None
    named = named_by(text, found, workspace=workspace, lock=lock)
    if named.obtained is not None and workspace is None and told:
        console.note(f"parameters lie in {found.workspace}")
    return named


def bring(text: str, *, lock: "Lock | None" = None, mend: bool = False) -> "Obtained":
    """The cube that a text names, with what there is to tell on the way."""
    from mlcube.cli.meter import Meter
    from mlcube.obtaining import obtain
    from mlcube.signals import catching

    meters: list[Meter] = []
    before = [0]

    def progress(done: int, total: int) -> None:
        if not meters:
            meters.append(Meter("pulled", total))
        meters[0].advance(done - before[0])
        before[0] = done

    with is_hinted("the same command goes on where it was"), catching() as signals:
        try:
            return obtain(text, locked=lock, report=console.note, progress=progress, check=signals.check, mend=mend)
        finally:
            for meter in meters:
                meter.__exit__()


def split_words(words: Sequence[str] | None, mlcube: str) -> tuple[str | None, list[str]]:
    """The word that names a cube, if the first does, and the others."""
    rest = list(words or ())
    if not rest or not _names_cube(rest[0]):
        return None, rest
    if mlcube != ".":
        return None, rest  # said to be no `name=value`, with a hint
    if os.path.exists("mlcube.yaml") and rest[0].isidentifier() and not os.path.exists(rest[0]):
        from mlcube.errors import CubeError
        from mlcube.reading import read_cube

        try:
            tasks = read_cube(".")[0].tasks
        except CubeError:
            tasks = {}
        if rest[0] in tasks:
            return None, rest  # a task of the cube here, which needs `--task`
    return rest[0], rest[1:]


def _names_cube(word: str) -> bool:
    if "=" not in word:
        return True
    from mlcube.references import is_reference

    return is_reference(word)


def _is_path(text: str) -> bool:
    """Whether a text is plainly a path, so that nothing needs to be imported to know it."""
    if "://" in text or text.endswith(".cube"):
        return False
    return text in ("", ".") or os.path.isdir(os.path.expanduser(text)) or text.endswith((".yaml", ".yml"))


def _lock() -> "Lock":
    from mlcube.pinning import read_lock

    return read_lock()

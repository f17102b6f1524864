"""What is told of the file that becomes a bundle."""

import os

from mlcube.cli import console

__all__ = ["left", "note_signature"]


def left(output: str, first: str) -> str:
    """What there is of a bundle that was to be written and was not; `first`: the file with which it would begin."""
    return f"`{output}` {'is what it was before' if os.path.exists(first) else 'was not written'}"


def note_signature(path: str) -> None:
    """Tell of a signature that lies beside a bundle just written and is not its own: as of the one it replaces."""
    from mlcube.bundling.reading import Bundle
    from mlcube.bundling.signatures import beside

    with Bundle(path) as bundle:
        if remark := beside(bundle).remark:
            console.note(f"{remark}: `cube sign {path} --key FILE` signs this one")

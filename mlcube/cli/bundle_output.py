"""What is told of the file that becomes a bundle."""

from mlcube.cli import console

__all__ = ["note_signature"]


def note_signature(path: str) -> None:
    """Tell of a signature that lies beside a bundle just written and is not its own: as of the one it replaces."""
    from mlcube.bundling.reading import Bundle
    from mlcube.bundling.signatures import beside

    with Bundle(path) as bundle:
        if remark := beside(bundle).remark:
            console.note(f"{remark}: `cube sign {path} --key FILE` signs this one")

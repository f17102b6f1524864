"""What of a cube's folder is published; and what is told of that which stays at home because it may be a secret."""

from collections.abc import Callable

from mlcube.cube import Cube
from mlcube.packing import DEFAULTS, SECRETS, Entry, contents, read_rules
from mlcube.publishing.inputs import WORKSPACE, sample_inputs, with_inputs

__all__ = ["published_entries"]

_MOST_NAMES = 5


def published_entries(
    cube: Cube,
    *,
    inputs: bool = False,
    check: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = lambda _message: None,
) -> tuple[Entry, ...]:
    """The files and links, with `inputs` those of the workspace too that tasks read by default.

    `report` is told once of what its name makes a secret, unless the `.cubeignore` names it. Raises InvalidFile and
    MissingInput for what cannot be published.
    """
    defaults = tuple(each for each in DEFAULTS if not inputs or each != f"/{WORKSPACE}")
    rules = read_rules(cube.root, defaults=defaults)
    without_secrets = read_rules(cube.root, defaults=tuple(each for each in defaults if each not in SECRETS))
    left: list[str] = []

    def ignored(path: str, directory: bool) -> bool:
        if not rules(path, directory):
            return False
        if not without_secrets(path, directory):
            left.append(f"{path}/" if directory else path)
        return True

    decide = with_inputs(ignored, sample_inputs(cube)) if inputs else ignored
    entries = contents(cube.root, decide, check=check)
    if inputs:
        from mlcube.pinning.making import missing_data

        for name, path in missing_data(cube, None, tuple(cube.tasks)).items():
            report(f"the input `{name}` does not go along: there is no `{path}` in the cube's own workspace")
    if left:
        left.sort()
        named = ", ".join(f"`{each}`" for each in left[:_MOST_NAMES])
        more = f" and {len(left) - _MOST_NAMES} more" if len(left) > _MOST_NAMES else ""
        report(f"left out, for it may be secret: {named}{more}; a line `!{left[0]}` in `.cubeignore` publishes it")
    return entries

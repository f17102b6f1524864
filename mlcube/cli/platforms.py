"""`cube platforms`: what is usable here; for the rest, why not, and what would make it so."""

from typing import Any

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.errors import CubeError
from mlcube.settings import Settings, read_settings

EXAMPLE = """\b
Examples:
  cube platforms
  cube platforms --json
"""


def command(as_json: Json = False) -> int:
    """Show every platform of this machine: usable, or why not and what to do. Asks the engines anew."""
    settings = read_settings()
    console.warnings(settings.warnings)
    found = [_look(settings, name) for name in _names(settings)]
    if as_json:
        console.document({"settings": settings.file, "default": settings.default_platform, "platforms": found})
        return 0
    rows = [("PLATFORM", "RUNNER", "HERE", "WHY NOT, AND WHAT TO DO")]
    for each in found:
        name = f"{each['name']} (default)" if each["name"] == settings.default_platform else each["name"]
        rows.append((name, each["runner"], "usable" if each["usable"] else "no", each["reason"] or ""))
        if each["hint"]:
            rows.append(("", "", "", f"-> {each['hint']}"))
    console.table(rows)
    return 0


def _names(settings: Settings) -> tuple[str, ...]:
    from mlcube.runner import ORDER, installed

    known = installed()
    ordered = [name for name in ORDER if name in known]
    return tuple(dict.fromkeys((*settings.platforms, *ordered, *known)))


def _look(settings: Settings, name: str) -> dict[str, Any]:
    from mlcube.host import gather
    from mlcube.platforms import resolve

    written = settings.platforms.get(name)
    found: dict[str, Any] = {"name": name, "runner": written["runner"] if written else name, "usable": False}
    found["requires"] = []
    try:
        platform = resolve(settings, name)
        host = gather(platform.runner, fresh=True)
    except CubeError as error:
        first = error.problems[0]
        return {**found, "reason": first.message, "hint": first.hint, "facts": {}}
    reason = platform.runner.unusable(host)
    return {
        **found,
        "requires": list(platform.runner.requires),
        "usable": reason is None,
        "reason": reason[0] if reason else None,
        "hint": reason[1] if reason else None,
        "facts": dict(host),
    }

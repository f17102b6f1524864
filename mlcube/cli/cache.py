"""`cube cache`: the cubes that were brought to this machine, listed, pinned, verified and pruned."""

import os
import time
from typing import Annotated, Literal

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.meter import amount
from mlcube.errors import CubeError, MissingInput, UsageError
from mlcube.store import Entry, Store
from mlcube.store.beside import PREFIX

EXAMPLE = """\b
Examples:
  cube cache
  cube cache pin oci://registry.example.org/digits:1.2
  cube cache prune --older-than 7d
  cube cache verify
"""

Action = Annotated[
    Literal["list", "pin", "unpin", "prune", "verify"] | None, argument(metavar="[list|pin|unpin|prune|verify]")
]
Names = Annotated[list[str] | None, argument(metavar="[CUBE]...", help="its name, or the beginning of its digest")]
OlderThan = Annotated[
    str | None, option("--older-than", metavar="TIME", help="prune what was not used for that long, as 12h; else 30d")
]
All = Annotated[bool, option("--all", help="prune everything that is neither pinned nor in use")]

_DAY_SECONDS = 24 * 3600.0
_OLD_SECONDS = 30 * _DAY_SECONDS


def command(
    action: Action = None,
    names: Names = None,
    older_than: OlderThan = None,
    all_: All = False,
    as_json: Json = False,
) -> int:
    """List what is kept of cubes that were pulled; pin, unpin, verify it, or remove what nobody has used for long."""
    if action != "prune" and (older_than or all_):
        raise UsageError("`--older-than` and `--all` are for `prune`", hint="cube cache prune --older-than 30d")
    store = Store(report=console.note)
    match action:
        case "pin" | "unpin":
            return _pin(store, action, names, as_json)
        case "prune":
            return _prune(store, names, older_than, all_, as_json)
        case "verify":
            return _verify(store, names, as_json)
    if names:
        raise UsageError("`list` takes no name", hint=f"cube cache verify {names[0]}")
    return _list(store, as_json)


def _list(store: Store, as_json: bool) -> int:
    found = store.entries()
    if as_json:
        console.document({"store": store.path, "cubes": [_plain(each) for each in found]})
        return 0
    if not found:
        console.note("nothing is kept yet: `cube pull` brings a cube")
        return 0
    rows = [("NAME", "DIGEST", "SIZE", "LAST USED", "PINNED")]
    rows += [
        (
            ", ".join(each.names) or each.title or "",
            _short(each.digest),
            amount(each.bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.used)),
            "yes" if each.pinned else "",
        )
        for each in found
    ]
    console.table(rows)
    return 0


def _pin(store: Store, action: str, names: list[str] | None, as_json: bool) -> int:
    if not names:
        raise UsageError(f"`{action}` needs a cube", hint=f"cube cache {action} NAME; `cube cache` lists them")
    found = [_find(store, name) for name in names]
    for each in found:
        (store.pin if action == "pin" else store.unpin)(each.digest)
        done = action == "pin" or each.pinned
        console.note(f"{action}ned {each.digest}" if done else f"{each.digest} was not pinned")
    if as_json:
        console.document({f"{action}ned": [each.digest for each in found]})
    return 0


def _prune(store: Store, names: list[str] | None, older_than: str | None, all_: bool, as_json: bool) -> int:
    if names:
        raise UsageError("`prune` takes no name", hint="cube cache prune --older-than 30d")
    if all_ and older_than:
        raise UsageError("`--all` and `--older-than` exclude each other", hint="leave one of them out")
    freed = store.prune(_seconds(older_than), all=all_, keep=_running(store))
    if as_json:
        console.document({"freed": freed})
    else:
        console.result(f"freed {amount(freed)}")
    return 0


def _verify(store: Store, names: list[str] | None, as_json: bool) -> int:
    """Every byte is read."""
    entries = [_find(store, name) for name in names] if names else [each for each in store.entries() if each.root]
    if given := next((each for each in entries if each.digest.startswith(PREFIX)), None):
        raise UsageError(
            f"`{given.digest}` is what a bundle gave, and is verified when it is used",
            hint="the bundle itself: cube bundle verify FILE",
        )
    damaged = {}
    for each in entries:
        if (error := _damage(store, each)) is not None:
            damaged[each.digest] = error
    if as_json:
        told = [{**_plain(each), "error": damaged[each.digest].args[0] if each.digest in damaged else None}
                for each in entries]  # fmt: skip
        console.document({"cubes": told})
    for each in entries:
        if each.digest in damaged:
            console.failure(damaged[each.digest])
        elif not as_json:
            console.result(f"{each.digest} is whole")
    return next(iter(damaged.values())).status if damaged else 0


def _damage(store: Store, entry: Entry) -> CubeError | None:
    try:
        store.verify(entry.digest)
    except CubeError as error:
        return error
    return None


def _find(store: Store, name: str) -> Entry:
    """What a name, or the beginning of a digest, means."""
    entries = store.entries()
    found = [each for each in entries if name in each.names or name in (each.digest, each.title)]
    if not found and len(name.rpartition(":")[2]) >= 4:
        found = [each for each in entries if each.digest.startswith(name) or _bare(each).startswith(name)]
    if not found:
        raise MissingInput(f"`{name}` is not kept here", hint="`cube cache` lists what is")
    if len(found) > 1:
        listed = ", ".join(f"`{each.digest}`" for each in found)
        raise UsageError(f"`{name}` is more than one: {listed}", hint="name it by its digest")
    return found[0]


def _running(store: Store) -> list[str]:
    """What runs need that have not ended."""
    from mlcube.record import RunDirectory, runs

    bundles = [each.digest for each in store.entries() if each.digest.startswith(PREFIX)]
    cubes = os.path.join(store.path, "cubes") + os.sep
    found = []
    for record in runs():
        if record.status != "running":
            continue
        if record.cube.file.startswith(cubes):
            name = record.cube.file.removeprefix(cubes).partition(os.sep)[0]
            found.append(store.digest_of_folder(name))
        plan = _plan(RunDirectory(record.id).path) if bundles else b""
        found += [each for each in bundles if each.removeprefix(PREFIX).encode() in plan]
    return found


def _plan(folder: str) -> bytes:
    """What a run performs: paths of what a bundle gave stand in it as they are."""
    try:
        with open(os.path.join(folder, "plan.json"), "rb") as file:
            return file.read()
    except OSError:
        return b""


def _seconds(text: str | None) -> float:
    if text is None:
        return _OLD_SECONDS
    from mlcube.amounts import duration

    if text.isdigit():
        raise UsageError(f"`--older-than {text}` says no unit", hint=f"--older-than {text}d, if days are meant")
    try:
        if text.endswith("d") and text[:-1].replace(".", "", 1).isdigit():
            return float(text[:-1]) * _DAY_SECONDS
        return duration(text)
    except ValueError as error:
        raise UsageError(f"`--older-than` takes {error}", hint="--older-than 30d") from None


def _plain(entry: Entry) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(entry), "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used))}


def _bare(entry: Entry) -> str:
    return entry.digest.rpartition(":")[2]


def _short(digest: str) -> str:
    kind, _, rest = digest.rpartition(":")
    return f"{kind}:{rest[:12]}"

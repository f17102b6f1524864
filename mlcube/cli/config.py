"""`cube config`: this machine's settings, read and changed one at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.editing import as_yaml, edit
from mlcube.errors import UsageError, closest, did_you_mean
from mlcube.runner import find
from mlcube.settings import Settings, read_settings

EXAMPLE = """\b
Examples:
  cube config --list
  cube config create-platform docker laptop
  cube config create-platform ssh lab --host gpu1 --root /me --inner docker
  cube config --set default_platform=laptop
  cube config --get platforms.laptop.runner
"""

CONTEXT = {"ignore_unknown_options": True}
"""A new platform's options are its runner's; see `platform_options`."""

Pair = tuple[str, str]
Data = dict[str, Any]

Get = Annotated[str | None, typer.Option("--get", metavar="KEY", help="print one value, as platforms.laptop.runner")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="set a value")]
Unset = Annotated[list[str] | None, typer.Option("--unset", metavar="KEY", help="remove a value")]
Create = Annotated[
    Pair | None, typer.Option("--create-platform", metavar="RUNNER NAME", help="add a platform with that runner")
]
Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="[--OPTION VALUE]...", help="options of a new platform, as --inner docker or inner=docker"),
]
Remove = Annotated[str | None, typer.Option("--remove-platform", metavar="NAME", help="remove a platform")]
Rename = Annotated[Pair | None, typer.Option("--rename-platform", metavar="OLD NEW", help="give a platform a new name")]
Copy = Annotated[Pair | None, typer.Option("--copy-platform", metavar="OLD NEW", help="add a platform like another")]
RenameRunner = Annotated[Pair | None, typer.Option("--rename-runner", metavar="OLD NEW", hidden=True)]
UpdatePlatforms = Annotated[bool, typer.Option("--update-platforms", hidden=True)]
RemoveRunner = Annotated[str | None, typer.Option("--remove-runner", metavar="NAME", hidden=True)]
RemovePlatforms = Annotated[bool, typer.Option("--remove-platforms", hidden=True)]


def command(
    list_all: Annotated[bool, typer.Option("--list", help="print the settings")] = False,
    get: Get = None,
    set_: Set = None,
    unset: Unset = None,
    create_platform: Create = None,
    remove_platform: Remove = None,
    rename_platform: Rename = None,
    copy_platform: Copy = None,
    rename_runner: RenameRunner = None,
    update_platforms: UpdatePlatforms = False,
    remove_runner: RemoveRunner = None,
    remove_platforms: RemovePlatforms = False,
    options: Options = None,
    as_json: Json = False,
) -> int:
    """Read and change the settings of this machine. Each change is whole or not at all."""
    given = _options(create_platform, options or ())
    created = (create_platform[1],) if create_platform else ()
    changes: list[Callable[[Data], None]] = [
        *(
            [partial(_create, runner=create_platform[0], name=create_platform[1], options=given)]
            if create_platform
            else []
        ),
        *([partial(_remove, name=remove_platform)] if remove_platform else []),
        *([partial(_rename, old=rename_platform[0], new=rename_platform[1])] if rename_platform else []),
        *([partial(_copy, old=copy_platform[0], new=copy_platform[1])] if copy_platform else []),
        *([partial(_rename_runner, names=rename_runner, update=update_platforms)] if rename_runner else []),
        *([partial(_remove_runner, name=remove_runner, platforms=remove_platforms)] if remove_runner else []),
        *(_setting(text) for text in set_ or ()),
        *(partial(_unset, key=key) for key in unset or ()),
    ]
    if not (changes or get is not None or list_all):
        raise UsageError("say what to do", hint="cube config --list")
    if get is not None and list_all:
        raise UsageError("`--list` prints everything, `--get` one value", hint=f"cube config --get {get}")

    settings = _edit(changes, set_ or (), created) if changes else read_settings()
    if changes:
        console.note(f"settings written to {settings.file}")
        list_all = list_all or (as_json and get is None)
    if get is not None:
        _print(_at(_data(settings), get), as_json)
    elif list_all:
        if not changes:
            console.note(f"settings of {settings.file}")
        _print(_data(settings), as_json)
    return 0


def _options(create_platform: Pair | None, words: Sequence[str]) -> Data:
    """The options of the platform that is created; without one there is nothing that further words could mean."""
    if create_platform is None:
        if words:
            word, verbs = words[0], ("list", "get", "set", "unset", *_VERBS)
            dashes = "--" if word.startswith("-") else ""
            near = closest(word.lstrip("-"), (*verbs, "json") if dashes else verbs)
            hint = f"did you mean `cube config {dashes}{near}`?" if near else "see `cube config --help`"
            what = f"there is no option `{word}`" if dashes else f"`cube config` does not know `{word}`"
            raise UsageError(what, hint=hint)
        return {}
    from mlcube.cli.platform_options import ask_options, read_options

    return ask_options(create_platform[0], read_options(create_platform[0], words))


_VERBS = ("create-platform", "remove-platform", "rename-platform", "copy-platform")


def _edit(changes: Sequence[Callable[[Data], None]], set_: Sequence[str], created: Sequence[str]) -> Settings:
    def change(data: Data) -> None:
        for each in changes:
            each(data)

    def check(settings: Settings) -> None:
        """A platform of which an option was set must be one that its runner understands; a default must exist."""
        from mlcube.platforms import resolve

        keys = [text.partition("=")[0].split(".") for text in set_]
        names = [key[1] for key in keys if len(key) > 2 and key[0] == "platforms"]
        names += [settings.default_platform or "" for key in keys if key == ["default_platform"]]
        for name in dict.fromkeys([*created, *names]):
            resolve(settings, name)

    return edit(change, check)


def _data(settings: Settings) -> Data:
    return (settings.document.data if settings.document else None) or {}


def _print(value: Any, as_json: bool) -> None:
    if as_json:
        console.document(value)
    elif value == {}:
        console.note("nothing is set")
    elif isinstance(value, dict):
        console.result(as_yaml(value).rstrip("\n"))
    else:
        console.result(value if isinstance(value, str) else console.as_json(value, indent=-1).decode())


def _at(data: Data, key: str) -> Any:
    value: Any = data
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            known = tuple(value) if isinstance(value, dict) else ()
            raise UsageError(f"the settings have no `{key}`", hint=did_you_mean(part, known) or "cube config --list")
        value = value[part]
    return value


def _platform(data: Data, name: str) -> Data:
    platforms = data.get("platforms") or {}
    if name not in platforms:
        raise UsageError(f"the settings have no platform `{name}`", hint=did_you_mean(name, tuple(platforms)))
    platform: Data = platforms[name]
    return platform


def _add(data: Data, name: str, options: Data) -> None:
    platforms = data.get("platforms") or {}
    if name in platforms:
        raise UsageError(f"there is a platform `{name}` already", hint=f"cube config --remove-platform {name}")
    if not name.strip() or any(letter in ",:/. " for letter in name):
        raise UsageError(f"`{name}` is no name for a platform", hint="use letters, digits, `-` and `_`")
    data["platforms"] = {**platforms, name: options}


def _create(data: Data, runner: str, name: str, options: Data) -> None:
    find(runner)
    _add(data, name, {"runner": runner, **options})


def _copy(data: Data, old: str, new: str) -> None:
    _add(data, new, dict(_platform(data, old)))


def _rename(data: Data, old: str, new: str) -> None:
    _copy(data, old, new)
    for platform in data["platforms"].values():
        if platform.get("inner") == old:
            platform["inner"] = new
    if data.get("default_platform") == old:
        data["default_platform"] = new
    del data["platforms"][old]


def _remove(data: Data, name: str) -> None:
    _platform(data, name)
    wrapping = [other for other, options in data["platforms"].items() if options.get("inner") == name]
    if wrapping:
        raise UsageError(f"platform `{name}` is the inner one of `{wrapping[0]}`", hint=f"remove `{wrapping[0]}` first")
    del data["platforms"][name]
    if data.get("default_platform") == name:
        del data["default_platform"]


def _rename_runner(data: Data, names: Pair, update: bool) -> None:
    """What stands in MLCube's `runners:`; ours are installed, and need no entry."""
    old, new = names
    runners = data.get("runners") or {}
    using = [name for name, options in (data.get("platforms") or {}).items() if options["runner"] == old]
    if old not in runners and not using:
        raise UsageError(f"the settings have no runner `{old}`", hint=did_you_mean(old, tuple(runners)))
    if using and not update:
        raise UsageError(f"platform `{using[0]}` uses runner `{old}`", hint="add `--update-platforms`")
    for name in using:
        data["platforms"][name]["runner"] = new
    if old in runners:
        data["runners"] = {(new if name == old else name): options for name, options in runners.items()}


def _remove_runner(data: Data, name: str, platforms: bool) -> None:
    runners = data.get("runners") or {}
    using = [each for each, options in (data.get("platforms") or {}).items() if options["runner"] == name]
    if name not in runners and not using:
        raise UsageError(f"the settings have no runner `{name}`", hint=did_you_mean(name, tuple(runners)))
    if using and not platforms:
        raise UsageError(f"platform `{using[0]}` uses runner `{name}`", hint="add `--remove-platforms`")
    for each in using:
        _remove(data, each)
    if name in runners:
        del runners[name]


def _setting(text: str) -> Callable[[Data], None]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"`--set {text}` has no value", hint=f"--set {key or 'default_platform'}=VALUE")

    def change(data: Data) -> None:
        from mlcube.source import Document

        *parents, last = key.split(".")
        for part in parents:
            inner = data.get(part)
            if inner is not None and not isinstance(inner, dict):
                raise UsageError(f"`{part}` in `{key}` is a value, not a section", hint="cube config --list")
            data[part] = inner or {}
            data = data[part]
        data[last] = Document.from_value(value, f"--set {key}", "--set", key).data

    return change


def _unset(data: Data, key: str) -> None:
    _at(data, key)
    *parents, last = key.split(".")
    if parents == ["platforms"]:
        _remove(data, last)  # which also looks at who refers to it
        return
    del (_at(data, ".".join(parents)) if parents else data)[last]

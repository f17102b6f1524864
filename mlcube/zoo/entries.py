"""The index of a zoo: what is said of each cube, so that it is found, shown and run."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["FORMAT", "Entry", "Index", "Parameter", "Result", "Signature", "Task", "TaskKind"]

FORMAT = "mlcube-zoo"
TaskKind = Literal["prepare", "train", "infer", "evaluate", "export", "other"]


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input or output of a task."""

    name: Annotated[str, Meta(description="Its name.")]
    type: Annotated[
        str | None,
        Meta(description="`file`, `directory`, `string`, `integer`, `float`, `boolean`. Null: a path of either kind."),
    ] = None
    default: Annotated[str | int | float | bool | None, Meta(description="The path or value if none is given.")] = None
    optional: Annotated[bool, Meta(description="The task also runs without it.")] = False
    choices: Annotated[tuple[str | int | float | bool, ...], Meta(description="The values it may have.")] = ()
    minimum: Annotated[float | None, Meta(description="The least value.")] = None
    maximum: Annotated[float | None, Meta(description="The greatest value.")] = None
    pattern: Annotated[str | None, Meta(description="What the whole of a text must match.")] = None
    description: Annotated[str | None, Meta(description="What it is for.")] = None

    @property
    def scalar(self) -> bool:
        """Whether it is a value and no path."""
        return self.type in ("string", "integer", "float", "boolean")

    @property
    def path(self) -> str | None:
        """Where it lies unless something else is said; None: it is no path."""
        return None if self.scalar else str(self.name if self.default is None else self.default)


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named thing that the cube can do."""

    name: Annotated[str, Meta(description="Its name.")]
    kind: Annotated[TaskKind, Meta(description="What kind of task it is, by its name.")] = "other"
    description: Annotated[str | None, Meta(description="What it does.")] = None
    inputs: Annotated[tuple[Parameter, ...], Meta(description="What it reads.")] = ()
    outputs: Annotated[tuple[Parameter, ...], Meta(description="What it writes.")] = ()
    needs: Annotated[
        dict[str, Any], Meta(description="What it needs: the resources of `cube describe --json`, and `network`.")
    ] = {}
    secrets: Annotated[tuple[str, ...], Meta(description="Values that the user supplies.")] = ()


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signature over the cube's manifest, as the zoo's builder found it. Who runs the cube verifies it anew."""

    key: Annotated[
        str | None, Meta(description="`sha256:...` of the public key that verified it. Null: none of those given did.")
    ] = None
    name: Annotated[str | None, Meta(description="What the zoo's builder calls that key.")] = None


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that was measured."""

    metric: Annotated[str, Meta(description="What was measured, as `accuracy`.")]
    value: Annotated[float | int | str, Meta(description="What came out.")]
    unit: Annotated[str | None, Meta(description="In what, as `images/s`.")] = None
    task: Annotated[str | None, Meta(description="The task that it is about.")] = None
    dataset: Annotated[str | None, Meta(description="On what data.")] = None
    platform: Annotated[str | None, Meta(description="On what machine or platform.")] = None
    date: Annotated[str | None, Meta(description="When.")] = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a cube."""

    name: Annotated[str, Meta(description="The cube's name.")]
    version: Annotated[str | None, Meta(description="Its version: its own, else its tag.")] = None
    description: Annotated[str | None, Meta(description="What it is, in a sentence.")] = None
    authors: Annotated[tuple[str, ...], Meta(description="Who made it.")] = ()
    license: Annotated[str | None, Meta(description="An SPDX expression.")] = None
    links: Annotated[dict[str, str], Meta(description="Names and addresses, http(s) or mailto.")] = {}
    reference: Annotated[
        str | None,
        Meta(description="`oci://host/repository@sha256:...`, what is run. Null: it is described, not published."),
    ] = None
    tags: Annotated[tuple[str, ...], Meta(description="The tags that lead to it at its registry.")] = ()
    digest: Annotated[str, Meta(description="`sha256:...` of the cube's file.")] = ""
    size: Annotated[int, Meta(description="The bytes of the cube without its image.")] = 0
    image: Annotated[str | None, Meta(description="The container image, by digest if that is known.")] = None
    python: Annotated[str | None, Meta(description="The versions of Python that it runs on, without an image.")] = None
    platforms: Annotated[tuple[str, ...], Meta(description="The runners that can run it.")] = ()
    accelerator: Annotated[Literal["none", "gpu"], Meta(description="Whether any task needs a GPU.")] = "none"
    tasks: Annotated[tuple[Task, ...], Meta(description="What it can do.")] = ()
    signatures: Annotated[tuple[Signature, ...], Meta(description="Signatures that lie beside it.")] = ()
    results: Annotated[tuple[Result, ...], Meta(description="What was measured.")] = ()
    page: Annotated[str | None, Meta(description="Its page, relative to the index.")] = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its tasks, each once."""
        return tuple(dict.fromkeys(task.kind for task in self.tasks))

    @property
    def repository(self) -> str | None:
        """`host/name` where it is published."""
        return self.reference.removeprefix("oci://").partition("@")[0] if self.reference else None


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What a zoo knows, `index.json`: cubes by name, the latest version of each first."""

    format: Annotated[Literal["mlcube-zoo"], Meta(description="That this is the index of a zoo.")] = "mlcube-zoo"
    schema: Annotated[int, Meta(description="The version of this format.")] = 1
    title: Annotated[str, Meta(description="What the zoo calls itself.")] = "Zoo"
    cubes: Annotated[tuple[Entry, ...], Meta(description="The cubes.")]

"""Bind mounts in the CSV dialect of `--mount`, which survives every path; `-v` breaks on a colon."""

from collections.abc import Iterable

from mlcube.errors import Refused
from mlcube.invocation import Mount

__all__ = ["csv_line", "mount_argument"]


def csv_line(fields: Iterable[str]) -> str:
    """One line of CSV. (The module `csv` costs 5 ms to import, and does not quote a line break.)

    >>> print(csv_line(["type=bind", 'source=/a,"b" c']))
    type=bind,"source=/a,""b"" c"
    """
    return ",".join(_field(field) for field in fields)


def mount_argument(mount: Mount) -> str:
    """The `--mount` argument of a bind mount."""
    for path in (mount.source, mount.target):
        if "\r\n" in path:  # readers of CSV turn it into "\n", which would be another path
            raise Refused(f"`{path!r}` has a line break that container engines change", hint="rename it")
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.access == "ro":
        fields.append("readonly")
    return f"--mount={csv_line(fields)}"


def _field(text: str) -> str:
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text

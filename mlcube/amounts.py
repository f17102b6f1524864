"""Amounts that people write: sizes, durations, GPUs.

Each raises ValueError with a clause that says what is expected.
"""

import re

from mlcube.cube import Gpus

__all__ = ["cpu_set", "duration", "gpus", "processors", "size"]

_UNITS = {"": 1, "b": 1} | {
    suffix: factor**power
    for power, letter in enumerate("kmgtp", 1)
    for suffix, factor in ((letter, 1024), (f"{letter}ib", 1024), (f"{letter}b", 1000))
}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DEVICE = r"(?:[0-9]{1,4}|GPU-[\w-]+|MIG-[\w-]+)"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def size(text: "str | int | float", *, engine: bool = False) -> int:
    """Bytes. `KiB`, `MiB`, `GiB` and `k`, `m`, `g` count by 1024, `kB`, `MB`, `GB` by 1000.

    With `engine`, as container engines read it: every unit counts by 1024.

    >>> size("4GiB"), size("1.5g"), size("2GB"), size("2gb", engine=True)
    (4294967296, 1610612736, 2000000000, 2147483648)
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-zA-Z]*)\s*", str(text))
    unit = match[2].lower() if match else "?"
    if engine and unit.endswith("b") and len(unit) == 2:
        unit = unit[0]
    if not match or unit not in _UNITS:
        raise ValueError(f"an amount such as `512MiB` or `4GB`, not `{text}`")
    if (amount := int(float(match[1]) * _UNITS[unit])) <= 0:
        raise ValueError(f"an amount above zero, not `{text}`")
    return amount


def duration(text: "str | int | float") -> float:
    """Seconds, from a number, `90s`, `2h30m` or `HH:MM:SS`.

    >>> duration("2h30m"), duration("01:00:00"), duration(1.5)
    (9000.0, 3600.0, 1.5)
    """
    words = str(text).strip().lower()
    seconds = -1.0
    if re.fullmatch(rf"{_NUMBER}", words):
        seconds = float(words)
    elif re.fullmatch(rf"({_NUMBER}[smhd])+", words):
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in re.findall(rf"({_NUMBER})([smhd])", words))
    elif clock := re.fullmatch(r"(?:([0-9]{1,5})-)?([0-9]{1,5}):([0-9]{2}):([0-9]{2})", words):
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    if seconds <= 0:
        raise ValueError(f"a time such as `90s`, `2h30m` or `01:30:00`, not `{text}`")
    return seconds


def gpus(text: "str | int | list[int | str]") -> Gpus:
    """A count, `all`, or devices: `2`, `all`, `0,2`, `device=0,2`; `""`, `0` and `none` are no GPU.

    >>> gpus("device=0,GPU-1a"), gpus("2"), gpus([0, 1]), gpus("")
    (('0', 'GPU-1a'), 2, ('0', '1'), 0)
    """
    expected = f"a count, `all`, or `device=0,1`, not `{text}`"
    if isinstance(text, list):
        devices = tuple(str(device) for device in text)
        if not devices or not all(re.fullmatch(r"[\w:.-]+", device) for device in devices):
            raise ValueError(expected)
        return devices
    words = str(text).strip().strip("\"'")
    if words in ("", "none", "0"):
        return 0
    if words == "all":
        return "all"
    if re.fullmatch("[0-9]{1,4}", words):
        return int(words)
    listed = words.removeprefix("device=")
    if listed != words or re.fullmatch(rf"{_DEVICE}(,{_DEVICE})*", words):
        return gpus([part.strip() for part in listed.split(",")])
    raise ValueError(expected)


def processors(text: "str | int | float") -> float:
    """How many processors, as in `4` or `0.5`."""
    if not re.fullmatch(_NUMBER, str(text)) or not float(text):
        raise ValueError(f"a number of processors such as `4` or `0.5`, not `{text}`")
    return float(text)


def cpu_set(text: str) -> str:
    """Processors by number, as in `0-3,7`."""
    if not re.fullmatch(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", text):
        raise ValueError(f"processors such as `0-3` or `0,2`, not `{text}`")
    return text

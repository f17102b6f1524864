"""Installs `cube` out of the bundle it lies in, with nothing but Python 3.10 or newer, and without a network.

    tar -xf model.cube install.py
    python3 install.py model.cube ~/cube

The second command makes a virtual environment in `~/cube`; then `~/cube/bin/cube run model.cube --task ...` works.
With `--wheels FOLDER` in the place of `~/cube` the wheels are written there, for `pip install --no-index --find-links`.
"""

import configparser
import hashlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

BLOCK = 512
ROLE = "io.mlcube.bundle.role"
TITLE = "org.opencontainers.image.title"
OF_AN_ENVIRONMENT = (".gitignore", "bin", "include", "lib", "lib64", "pyvenv.cfg")
"""What a virtual environment consists of."""


class Bundle:
    """The members of the bundle's tar, which may have been cut into parts."""

    def __init__(self, path: str) -> None:
        self.files: list[tuple[int, BinaryIO]] = []
        self.size = 0
        while os.path.exists(path):
            self.files.append((self.size, open(path, "rb")))  # noqa: SIM115 - as long as this runs
            self.size += os.path.getsize(path)
            number = re.search(r"\.(\d{3,})$", path)
            if not number:
                break
            path = f"{path[: number.start()]}.{int(number[1]) + 1:03}"
        if not self.files:
            raise SystemExit(f"there is no bundle `{path}`")
        self.places: dict[str, tuple[int, int]] = {}
        place = 0
        while True:
            head = self.read(place, BLOCK)
            if not head.strip(b"\0"):
                break
            if head[257:262] != b"ustar" or len(head) < BLOCK:
                raise SystemExit("the bundle is damaged: copy it once more")
            size = int.from_bytes(head[125:136], "big") if head[124] == 0x80 else int(head[124:135], 8)
            self.places[head[:100].split(b"\0")[0].decode()] = (place + BLOCK, size)
            place += BLOCK + size + -size % BLOCK

    def read(self, place: int, size: int) -> bytes:
        content = b""
        for begin, file in self.files:
            length = os.fstat(file.fileno()).st_size
            if begin <= place < begin + length and size:
                file.seek(place - begin)
                found = file.read(min(size, begin + length - place))
                content, place, size = content + found, place + len(found), size - len(found)
        return content

    def blob(self, digest: str) -> bytes:
        place = self.places.get("blobs/sha256/" + digest[7:])
        if place is None:
            raise SystemExit(f"the bundle lacks `{digest}`: name the first of its parts, or the bundle it builds on")
        content = self.read(*place)
        if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
            raise SystemExit(f"the bundle is damaged: a blob is not `{digest}`")
        return content

    def wheels(self) -> Iterator[tuple[str, str]]:
        index = json.loads(self.read(*self.places["index.json"]))
        for entry in index["manifests"]:
            if entry.get("annotations", {}).get(ROLE) == "tool":
                for layer in json.loads(self.blob(entry["digest"]))["layers"]:
                    name = layer["annotations"][TITLE]
                    if "/" not in name and name.endswith(".whl"):
                        yield name, layer["digest"]


def fits(name: str) -> bool:
    """Whether a wheel is for this Python: what is compiled is there for each that the bundle was made for."""
    python, abi, _ = name[: -len(".whl")].split("-")[-3:]
    own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    if any(tag in ("py3", f"py{sys.version_info[0]}{sys.version_info[1]}", own) for tag in python.split(".")):
        return True
    older = [tag for tag in python.split(".") if re.fullmatch(r"cp3\d+", tag)]
    return abi == "abi3" and any(int(tag[3:]) <= sys.version_info[1] for tag in older)


def install(content: bytes, site: str, scripts: str, interpreter: str) -> None:
    """What an installer does with a wheel."""
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for member in wheel.infolist():
            name = member.filename
            if name.startswith(("/", "\\")) or ".." in name.split("/"):
                raise SystemExit(f"a wheel holds `{name}`, a path that leads out")
            if member.is_dir():
                continue
            folder, _, rest = name.partition(".data/")
            if rest and "/" not in folder:
                kind, _, rest = rest.partition("/")
                target = {"purelib": site, "platlib": site, "scripts": scripts}.get(kind)
                if target is None:
                    continue
                path = os.path.join(target, rest)
            else:
                path = os.path.join(site, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            written = wheel.read(member)
            if rest and path.startswith(scripts) and written.startswith(b"#!python"):
                written = f"#!{interpreter}".encode() + written[len(b"#!python") :]
            with open(path, "wb") as file:
                file.write(written)
            if (member.external_attr >> 16) & stat.S_IXUSR or path.startswith(scripts + os.sep):
                os.chmod(path, 0o755)
        points = next((name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")), None)
        if points:
            parser = configparser.ConfigParser(delimiters=("=",))
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            parser.read_string(wheel.read(points).decode())
            for name, value in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
                module, _, function = value.split("[")[0].strip().partition(":")
                path = os.path.join(scripts, name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(f"#!{interpreter}\nimport sys\nfrom {module} import {function.split('.')[0]}\n")
                    file.write(f"sys.exit({function}())\n")
                os.chmod(path, 0o755)


@contextmanager
def whole_or_nothing(target: str, names: tuple[str, ...]) -> Iterator[None]:
    """Makes a folder for what has these names; where that fails, all of it is removed, and nothing that was there."""
    missing = [target]
    while not os.path.lexists(os.path.dirname(missing[-1])):
        missing.append(os.path.dirname(missing[-1]))
    made = not os.path.lexists(target)
    ours = [os.path.join(target, name) for name in names]
    ours = [target] if made else [path for path in ours if not os.path.lexists(path)]
    try:
        os.makedirs(target, exist_ok=True)
        yield
    except OSError as error:
        remove(ours, missing if made else [])
        reason = (error.strerror or str(error)).lower()
        raise SystemExit(f"`{target}` cannot be written: {reason}: name another folder") from None
    except BaseException:
        remove(ours, missing if made else [])
        raise


def remove(paths: list[str], folders: list[str]) -> None:
    """Files and folders with all that is in them, then those folders in which nothing else lies."""
    for path in paths:
        with suppress(OSError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
    for folder in folders:
        with suppress(OSError):
            os.rmdir(folder)


def write_wheels(bundle: Bundle, wheels: list[tuple[str, str]], target: str) -> None:
    """Writes them into a folder, each under its name once it is whole."""
    parts = tuple(f"{name}.part" for name, _ in wheels)
    with whole_or_nothing(target, (*(name for name, _ in wheels), *parts)):
        for (name, digest), part in zip(wheels, parts, strict=True):
            with open(os.path.join(target, part), "wb") as file:
                file.write(bundle.blob(digest))
            os.replace(os.path.join(target, part), os.path.join(target, name))


def make_environment(bundle: Bundle, wheels: list[tuple[str, str]], target: str) -> str:
    """Makes a virtual environment with these wheels; gives the folder of its programs."""
    scripts = os.path.join(target, "bin")
    interpreter = os.path.join(scripts, "python")
    site = os.path.join(target, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    with whole_or_nothing(target, OF_AN_ENVIRONMENT):
        done = subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], capture_output=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise SystemExit(f"`python3 -m venv --without-pip {target}` failed: {said[-1]}")
        for name, digest in wheels:
            try:
                install(bundle.blob(digest), site, scripts, interpreter)
            except (ValueError, zipfile.BadZipFile, configparser.Error):  # noqa: PERF203 - each by its name
                raise SystemExit(f"the bundle is damaged: `{name}` is no wheel") from None
        subprocess.run([interpreter, "-m", "compileall", "-q", site], capture_output=True, check=False)
    return scripts


def stop(number: int, _frame: object) -> None:
    """Ends the program in a way that removes what was begun, which a second signal does not stop."""
    signal.signal(number, signal.SIG_IGN)
    print(f"stopped by {signal.Signals(number).name}: what was begun is removed", file=sys.stderr)
    raise SystemExit(128 + number)


def opened(path: str) -> tuple[Bundle, list[tuple[str, str]]]:
    """A bundle, and the wheels in it."""
    try:
        bundle = Bundle(path)
        wheels = list(bundle.wheels())
    except OSError as error:
        raise SystemExit(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise SystemExit("the bundle is damaged: copy it once more") from None
    if not wheels:
        raise SystemExit("the bundle carries no `cube` for any Python: make it once more without `--without-tool`")
    return bundle, wheels


def main() -> None:
    if len(sys.argv) not in (3, 4) or (len(sys.argv) == 4 and sys.argv[2] != "--wheels"):
        raise SystemExit(__doc__)
    if sys.version_info < (3, 10):  # noqa: UP036 - any Python may be asked
        raise SystemExit("cube needs Python 3.10 or newer")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    target = os.path.abspath(os.path.expanduser(sys.argv[-1]))
    bundle, wheels = opened(sys.argv[1])
    if os.path.lexists(target) and not os.path.isdir(target):
        raise SystemExit(f"`{target}` is a file where a folder belongs: name another place")
    if len(sys.argv) == 4:
        write_wheels(bundle, wheels, target)
        print(f"now: python3 -m pip install --no-index --find-links {target} mlcube")
        return
    chosen = [(name, digest) for name, digest in wheels if fits(name)]
    lacking = sorted({name.split("-")[0] for name, _ in wheels} - {name.split("-")[0] for name, _ in chosen})
    if lacking:
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SystemExit(f"the bundle has no {', '.join(lacking)} for Python {here}: use another python3")
    scripts = make_environment(bundle, chosen, target)
    print(f"now: {os.path.join(scripts, 'cube')} run {sys.argv[1]} --task ...")


if __name__ == "__main__":
    main()

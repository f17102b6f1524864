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
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

BLOCK = 512
ROLE = "io.mlcube.bundle.role"
TITLE = "org.opencontainers.image.title"


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


def main() -> None:
    if len(sys.argv) not in (3, 4) or (len(sys.argv) == 4 and sys.argv[2] != "--wheels"):
        raise SystemExit(__doc__)
    if sys.version_info < (3, 10):  # noqa: UP036 - any Python may be asked
        raise SystemExit("cube needs Python 3.10 or newer")
    target = os.path.abspath(os.path.expanduser(sys.argv[-1]))
    bundle = Bundle(sys.argv[1])
    wheels = list(bundle.wheels())
    if len(sys.argv) == 4:
        os.makedirs(target, exist_ok=True)
        for name, digest in wheels:
            with open(os.path.join(target, name), "wb") as file:
                file.write(bundle.blob(digest))
        print(f"now: python3 -m pip install --no-index --find-links {target} mlcube")
        return
    chosen = [(name, digest) for name, digest in wheels if fits(name)]
    lacking = sorted({name.split("-")[0] for name, _ in wheels} - {name.split("-")[0] for name, _ in chosen})
    if lacking or not chosen:
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SystemExit(f"the bundle has no {', '.join(lacking) or 'cube'} for Python {here}: use another python3")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    scripts = os.path.join(target, "bin")
    interpreter = os.path.join(scripts, "python")
    site = os.path.join(target, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    for _, digest in chosen:
        install(bundle.blob(digest), site, scripts, interpreter)
    subprocess.run([interpreter, "-m", "compileall", "-q", site], check=False)
    print(f"now: {os.path.join(scripts, 'cube')} run {sys.argv[1]} --task ...")


if __name__ == "__main__":
    main()

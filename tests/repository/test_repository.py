"""Does the repository obey its own rules?"""

import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlcube.packing import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]


class _Loader(yaml.SafeLoader):
    """YAML as cubes are read: no dates, no `on` and `yes`."""


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool", ":int", ":float"))
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+\.[0-9]*$"), list("-+0123456789"))


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, or will know."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return [ROOT / name for name in names if name and (ROOT / name).exists()]


def test_generated_files_are_in_step_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["mlcube", "settings", "record", "zoo"])
def test_schemas_are_valid_schemas(name: str) -> None:
    schema = json.loads((ROOT / f"schemas/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert undescribed(schema) == []


def undescribed(schema: dict[str, Any]) -> list[str]:
    """Keys without a description, which an editor would show without a word."""
    parts = {"": schema, **schema.get("$defs", {})}
    return [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, what in part.get("properties", {}).items()
        if not what.get("description")
    ]


def cubes() -> list[Path]:
    """The examples and the corpus's cubes that are right without a warning."""
    found = tracked("examples/*/mlcube.yaml", "mlcube/templates/*/mlcube.yaml")
    for expected in tracked("tests/corpus/valid/*/expected.json"):
        cube = expected.parent / "mlcube.yaml"
        if cube.exists() and '"warnings": [\n' not in expected.read_text() and b"<<" not in cube.read_bytes():
            found.append(cube)
    return found


@pytest.mark.parametrize("path", cubes(), ids=lambda path: str(path.parent.name))
def test_cubes_that_are_right_are_right_by_the_schema(path: Path) -> None:
    schema = json.loads((ROOT / "schemas/mlcube.schema.json").read_text())
    content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    jsonschema.validate(content, schema)


def samples(page: str, kind: str) -> list[str]:
    """The blocks of code of one kind in a page."""
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_cube_of_the_tutorial_is_the_one_of_the_example() -> None:
    (sample,) = samples("docs/tutorials/package-a-model.md", "yaml")
    written = (ROOT / "examples/digits/mlcube.yaml").read_text(encoding="utf-8")
    shown, whole = yaml.safe_load(sample), yaml.safe_load(written)
    assert shown == {**{key: whole[key] for key in shown}, "tasks": {"train": whole["tasks"]["train"]}}
    assert set(sample.splitlines()) <= set(written.splitlines())


def test_the_mistake_that_the_readme_shows_is_told_in_these_words(tmp_path: Path) -> None:
    (sample,) = samples("README.md", "yaml")
    (told,) = [text for text in samples("README.md", "text") if text.startswith("mlcube.yaml:")]
    (tmp_path / "src").mkdir()
    (tmp_path / "mlcube.yaml").write_text(sample.replace("default: data/", "defualt: data/"))
    argv = [sys.executable, "-m", "mlcube", "check"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, told)


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in tracked("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        broken += [
            f"{page.relative_to(ROOT)}: {target}"
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
        ]
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if linked.is_file():
                todo.append(linked)
            elif (linked / "README.md").is_file():
                todo.append(linked / "README.md")
    assert [str(page.relative_to(ROOT)) for page in tracked("docs/*.md", "examples/*.md") if page not in reached] == []


def test_whatever_is_imported_is_asked_for() -> None:
    """Not all that others bring along: they may bring an older one, or none."""

    def called(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    asked = {called(re.split(r"[^A-Za-z0-9_.-]", text)[0]) for text in metadata.requires("mlcube") or ()}
    imported = set()
    for path in tracked("mlcube/*.py", "runners/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            imported |= {name.partition(".")[0] for name in found}
    installed = metadata.packages_distributions()
    others = {name: installed[name] for name in imported & set(installed)}
    assert "msgspec" in others
    assert [name for name, whose in others.items() if not {called(each) for each in whose} & {*asked, "mlcube"}] == []


def test_what_is_not_published_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/artifact.md").read_text(encoding="utf-8")
    names = {pattern.removeprefix("!").removeprefix("**/").removeprefix("/") for pattern in DEFAULTS}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_no_module_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("mlcube/*.py", "runners/*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}


def called(path: Path) -> set[str]:
    """The dotted names of everything that a module calls."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_only_one_module_starts_processes_and_only_the_console_prints() -> None:
    starting = re.compile(r"(subprocess\.\w+|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork\w*))$")
    printing = re.compile(r"(print|sys\.std(out|err)\.write)$")
    starts, prints = set(), set()
    for path in tracked("mlcube/*.py", "runners/*.py"):
        name, calls = str(path.relative_to(ROOT)), called(path)
        if "templates/" in name:
            continue
        if any(map(starting.match, calls)):
            starts.add(name)
        if any(map(printing.match, calls)):
            prints.add(name)
    # A run that is left is performed by a copy of the process, and from Python by one of a process that was started for
    # that; the conformance suite sends signals to such as perform;
    # a credential helper is told an address and answers a secret, which no log may see.
    assert starts == {
        "mlcube/starting.py",
        "mlcube/cli/attending.py",
        "mlcube/cli/forking.py",
        "mlcube/cli/leaving.py",
        "mlcube/conformance/carrier.py",
        "mlcube/forks.py",
        "mlcube/registry/credential_helpers.py",
    }
    assert prints == {"mlcube/cli/console.py"}


def test_what_the_demonstration_and_the_tutorial_create_is_none_of_the_repositorys_code() -> None:
    demo = (ROOT / "examples" / "demo.sh").read_text(encoding="utf-8")
    tutorial = (ROOT / "docs" / "tutorials" / "package-a-model.md").read_text(encoding="utf-8")
    created = [word.split("/")[0] for page in (demo, tutorial) for word in re.findall(r"cube create (\S+)\n", page)]
    created += [word.split("/")[0] for word in re.findall(r"cube create (\S+) &&", demo)]
    assert created
    excluded = re.search(r"^extend-exclude = (\[.*?\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert excluded is not None
    assert set(created) <= set(json.loads(excluded[1]))
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {f"/{name}/" for name in created} <= set(ignored)


def test_no_file_keeps_the_marks_of_a_merge() -> None:
    marks = re.compile(rb"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
    assert [
        str(path.relative_to(ROOT)) for path in tracked() if path.is_file() and marks.search(path.read_bytes())
    ] == []

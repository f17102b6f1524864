"""Building a zoo: what the index says, what pages show of hostile cubes, and that a site is whole or not there."""

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mlcube.errors import CubeError, InvalidFile, MissingInput, UsageError
from mlcube.zoo.building import build
from mlcube.zoo.cards import renderer
from mlcube.zoo.commands import commands
from mlcube.zoo.describing import kind_of, platforms, safe_link, task
from mlcube.zoo.drawing import drawing
from mlcube.zoo.entries import Entry, Index, Parameter, Result, Task
from mlcube.zoo.pages import page_name
from mlcube.zoo.results import packed_results
from mlcube.zoo.sources import Described, gather
from mlcube.zoo.versions import matching, order

ROOT = Path(__file__).resolve().parents[2]
EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"

CUBE = """\
name: {name}
version: {version}
description: {about}
license: Apache-2.0
authors: [Zoë]
links: {{paper: "https://example.org/paper", bad: "javascript:alert(1)"}}
docker: {{image: a/b:1}}
tasks:
  prepare:
    parameters: {{outputs: {{data: data/}}}}
  train:
    parameters: {{inputs: {{data: data/, epochs: {{type: integer, default: 3}}}}, outputs: {{model: model/}}}}
    resources: {{gpus: 1}}
"""


def written(folder: Path, name: str = "one", version: str = "1.0.0", about: str = "It reads.", card: str = "") -> Path:
    cube = folder / name
    cube.mkdir(parents=True)
    text = CUBE.format(name=json.dumps(name), version=json.dumps(version), about=json.dumps(about))
    (cube / "mlcube.yaml").write_text(text)
    if card:
        (cube / "README.md").write_text(card)
    return cube


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_index_says_what_the_cube_is(tmp_path: Path) -> None:
    written(tmp_path / "cubes", card="# one\n\nHello.")
    (tmp_path / "cubes/one/results.yaml").write_text("- {metric: accuracy, value: 0.97, task: train}\n")
    build(gather([str(tmp_path / "cubes")]), str(tmp_path / "site"), title="Mine")
    index = msgspec.json.decode((tmp_path / "site/index.json").read_bytes(), type=Index)
    (entry,) = index.cubes
    assert (index.title, entry.name, entry.version, entry.license) == ("Mine", "one", "1.0.0", "Apache-2.0")
    assert entry.links == {"paper": "https://example.org/paper"}
    assert entry.accelerator == "gpu"
    assert entry.kinds == ("prepare", "train")
    assert entry.platforms == platforms(image=True, python=False)
    assert "local" not in entry.platforms
    assert entry.tasks[1].needs == {"gpus": 1}
    assert entry.results[0].value == 0.97
    assert entry.reference is None
    assert entry.size > 0
    assert (tmp_path / "site" / (entry.page or "")).is_file()


def test_the_index_is_as_its_schema_says(tmp_path: Path) -> None:
    schema = json.loads((ROOT / "schemas/zoo.schema.json").read_text())
    build(gather([str(ROOT / "examples")]), str(tmp_path / "site"))
    index = json.loads((tmp_path / "site/index.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(index)
    index["cubes"][0]["tasks"] = 5
    assert not jsonschema.Draft202012Validator(schema).is_valid(index)


def test_the_same_cubes_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        written(tmp_path / "cubes", name)
    for site in ("one", "two"):
        build(gather([str(tmp_path / "cubes")]), str(tmp_path / site))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert [each["name"] for each in json.loads((tmp_path / "one/index.json").read_text())["cubes"]] == ["a", "b", "c"]


def test_a_list_names_folders_relative_to_itself(tmp_path: Path) -> None:
    written(tmp_path / "cubes", "one")
    written(tmp_path / "cubes", "two").rename(tmp_path / "cubes" / "two#")
    (tmp_path / "list.txt").write_text("# mine\ncubes/one # the first\n\n  #\ncubes/two#\n")
    assert [each.entry.name for each in gather([str(tmp_path / "list.txt")])] == ["one", "two"]
    (tmp_path / "list.txt").write_text("cubes/one\n  cubes/three\n")
    with pytest.raises(InvalidFile) as error:
        gather([str(tmp_path / "list.txt")])
    assert (error.value.problems[0].position.line, error.value.problems[0].position.column) == (2, 3)  # type: ignore[union-attr]


def test_every_broken_cube_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    written(tmp_path / "cubes", "one")
    for name in ("two", "three"):
        written(tmp_path / "cubes", name)
        (tmp_path / f"cubes/{name}/mlcube.yaml").write_text("tasks: 5\n")
    with pytest.raises(InvalidFile) as error:
        gather([str(tmp_path / "cubes")])
    told = {Path(each.position.source).parent.name for each in error.value.problems if each.position}
    assert told == {"two", "three"}


def test_one_name_and_version_means_one_cube(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    second = written(tmp_path / "b")
    with pytest.raises(InvalidFile, match="is both"):
        gather([str(first), str(second)])
    assert len(gather([str(first), str(first)])) == 1


def test_a_source_that_is_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="no folder or list"):
        gather([str(tmp_path / "none")])
    with pytest.raises(MissingInput, match="is no cube"):
        gather([str(tmp_path)])
    cube = written(tmp_path)
    with pytest.raises(UsageError, match="no list of sources"):
        gather([str(cube / "mlcube.yaml")])


def test_a_folder_that_is_no_zoo_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path / "cubes")
    cubes = gather([str(tmp_path / "cubes")])
    site = tmp_path / "site"
    site.mkdir()
    (site / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        build(cubes, str(site))
    (site / "thesis.tex").rename(site / "index.html")
    with pytest.raises(UsageError, match="is no zoo"):
        build(cubes, str(site))
    assert (site / "index.html").read_text() == "years"


def test_a_build_that_fails_leaves_the_former_site_whole(tmp_path: Path) -> None:
    written(tmp_path / "cubes", "one")
    written(tmp_path / "cubes", "two")
    site = tmp_path / "site"
    build(gather([str(tmp_path / "cubes/one")]), str(site))
    before = files_of(site)

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise CubeError("stopped")

    with pytest.raises(CubeError, match="stopped"):
        build(gather([str(tmp_path / "cubes")]), str(site), check=check)
    assert files_of(site) == before
    assert sorted(os.listdir(tmp_path)) == ["cubes", "home", "site"]
    (tmp_path / ".site.new").mkdir()  # what a build leaves that was killed
    build(gather([str(tmp_path / "cubes/two")]), str(site))
    assert [each["name"] for each in json.loads((site / "index.json").read_text())["cubes"]] == ["two"]
    assert sorted(os.listdir(tmp_path)) == ["cubes", "home", "site"]


class _Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("place", ["name", "about", "card", "task", "author"])
def test_what_a_cube_says_is_text_and_nothing_else(tmp_path: Path, place: str) -> None:
    cube = tmp_path / "cubes/one"
    cube.mkdir(parents=True)
    evil = json.dumps(EVIL)
    said = {key: evil if key == place else json.dumps("plain") for key in ("name", "about", "task", "author")}
    (cube / "mlcube.yaml").write_text(
        f"name: {said['name']}\ndescription: {said['about']}\nauthors: [{said['author']}]\ndocker: {{image: a/b}}\n"
        f"license: {said['about']}\n"
        f"tasks:\n  t:\n    description: {said['task']}\n    parameters:\n"
        f"      inputs: {{i: {{type: file, default: {said['task']}, description: {said['task']}}}}}\n"
    )
    (cube / "README.md").write_text(EVIL if place == "card" else "plain")
    build(gather([str(tmp_path / "cubes")]), str(tmp_path / "site"))
    for name, content in files_of(tmp_path / "site").items():
        if name.endswith(".html"):
            for tag, attributes in _Elements(content.decode()).tags:
                assert tag != "img"
                assert tag != "script" or set(attributes) == {"src", "defer"}
                assert not [key for key in attributes if key.startswith("on") or key == "style"]
        elif name == "assets/index.js":
            assert b"<" not in content


def test_pages_ask_nobody_for_anything(tmp_path: Path) -> None:
    written(tmp_path / "cubes", card="![](https://tracker.example/a.png)\n\n[x](https://example.org)")
    build(gather([str(tmp_path / "cubes")]), str(tmp_path / "site"))
    for name, content in files_of(tmp_path / "site").items():
        if not name.endswith(".html"):
            continue
        for tag, attributes in _Elements(content.decode()).tags:
            if tag in ("script", "link", "img"):
                assert "://" not in (attributes.get("src") or attributes.get("href") or "")
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in content.decode()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a](https://example.org)", '<a href="https://example.org" rel="noopener noreferrer nofollow">a</a>'),
        ("[a](mailto:me@example.org)", '<a href="mailto:me@example.org" rel="noopener noreferrer nofollow">a</a>'),
        ("[a](javascript:alert(1))", "[a](javascript:alert(1))"),
        ("[a](data:text/html,x)", "[a](data:text/html,x)"),
        ("[a](other.md)", "[a](other.md)"),
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("![a](https://e.org/a.png)", '<a href="https://e.org/a.png" rel="noopener noreferrer nofollow">a</a>'),
    ],
)  # fmt: skip
def test_cards_are_markdown_without_html_and_with_safe_links(text: str, wanted: str) -> None:
    assert renderer()(text).strip() == f"<p>{wanted}</p>"


def test_headings_of_a_card_stand_below_the_pages_own() -> None:
    assert re.findall(r"<h\d>", renderer()("# a\n\n## b\n\n###### c")) == ["<h2>", "<h3>", "<h6>"]


@pytest.mark.parametrize("text", ["> " * 5000 + "x", "[" * 20000, "*" * 20000 + "a", "- " * 3000])
def test_cards_that_are_made_to_take_long_do_not(text: str) -> None:
    assert renderer()(text)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://example.org/a?b#c", True),
        ("HTTP://example.org", True),
        ("mailto:me@example.org", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("java\nscript:alert(1)", False),
        ("//example.org", False),
        ("https:", False),
        ("https://[", False),
        ("vbscript:x", False),
        ("file:///etc/passwd", False),
    ],
)
def test_links_lead_to_the_web_or_to_mail(url: str, safe: bool) -> None:
    assert safe_link(url) is safe


def test_pages_have_names_that_stay_in_their_folder() -> None:
    names = ["../../etc/passwd", "a/b", "CON", "", ".", "ü", "a" * 300, "x\0y", "Digits", "digits"]
    pages = [page_name(Entry(name=name)) for name in names]
    assert len({page.lower() for page in pages}) == len(names)
    assert all(re.fullmatch(r"cubes/[a-z0-9][a-z0-9._-]{0,90}\.html", page) for page in pages)
    assert page_name(Entry(name="digits", version="1.0.0")) == "cubes/digits-1.0.0.html"
    # what would be the same file without more
    assert page_name(Entry(name="a-1", version="2")) != page_name(Entry(name="a", version="1-2"))


def test_commands_quote_what_a_shell_would_take_for_its_own() -> None:
    entry = Entry(name="x", reference=f"oci://h.example/x@sha256:{'0' * 64}", platforms=("docker",))
    task = Task(name="t; rm -rf ~")
    running, more = commands(msgspec.structs.replace(entry, tasks=(task,)))
    assert running[1].text.endswith("--task 't; rm -rf ~' --platform docker")
    assert [each.text.split()[1] for each in more] == ["pull", "bundle"]
    running, _ = commands(msgspec.structs.replace(entry, tasks=(Task(name="t\nrm -rf ~"),)))
    assert running == ()


def test_the_drawing_joins_tasks_by_the_paths_of_their_files() -> None:
    def path(name: str, default: str) -> Parameter:
        return Parameter(name=name, type="directory", default=default)

    tasks = (
        Task(name="train", inputs=(path("data", "./data"),), outputs=(path("model", "model/"),)),
        Task(name="prepare", outputs=(path("out", "data/"),)),
        Task(name="test", inputs=(path("model", "model"), path("data", "data"))),
    )
    svg = drawing(tasks)
    assert svg.count("<g ") == 5
    assert svg.count('class="edge"') == 5
    assert svg.index(">prepare</text>") > 0
    rows = {name: int(y) for y, name in re.findall(r'<text x="\d+" y="(\d+)">([^<]+)<', svg)}
    assert rows["prepare"] < rows["data"] < rows["train"] < rows["model"] < rows["test"]
    assert drawing((Task(name="only"),)) == ""
    loop = Task(name=EVIL, inputs=(path("a", "x"),), outputs=(path("b", "x"),))
    assert "<script" not in drawing((loop,))
    assert drawing(tuple(Task(name=str(each), outputs=(path("a", str(each)),)) for each in range(500))) == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [("train", "train"), ("fine_tune", "train"), ("run_inference", "infer"), ("get-data", "prepare"), ("go", "other")],
)  # fmt: skip
def test_the_name_of_a_task_tells_its_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    "plain", [{}, {"name": 5}, {"name": "a", "inputs": 5}, {"name": "a", "secrets": 5}, {"name": "a", "resources": []},
              {"name": "a", "inputs": [{"name": "x", "default": {}}]}, {"name": "a", "resources": [1]}]
)  # fmt: skip
def test_a_published_task_is_one_or_is_refused(plain: dict[str, Any]) -> None:
    if plain == {"name": "a", "resources": []}:
        assert task(plain).name == "a"
        return
    with pytest.raises(msgspec.ValidationError):
        task(plain)


def test_a_build_that_is_killed_leaves_the_former_site_and_the_next_one_succeeds(tmp_path: Path) -> None:
    for number in range(40):
        written(tmp_path / "cubes", f"cube{number}")
    site = tmp_path / "site"
    build(gather([str(tmp_path / "cubes/cube0")]), str(site))
    before = files_of(site)
    argv = [sys.executable, "-m", "mlcube", "zoo", "build", str(tmp_path / "cubes"), "-o", str(site)]
    for _ in range(3):
        building = subprocess.Popen(argv)
        beside = tmp_path / ".site.new/cubes"
        deadline = time.monotonic() + 60
        while not beside.exists() and building.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        building.kill()
        building.wait()
        found = files_of(site)
        assert found == before or len(found) == 40 + 7
        before = found
    subprocess.run(argv, check=True)
    assert len(files_of(site)) == 40 + 7
    assert sorted(os.listdir(tmp_path)) == ["cubes", "home", "site"]


def test_versions_are_ordered_as_people_mean_them() -> None:
    versions = ["1.10.0", "1.9", "1.9.1", "2.0-rc1", "2.0-rc2", "2.0", "v3", None, "1" * 5000]
    ordered = sorted(versions, key=order)
    assert ordered.index("1.9") < ordered.index("1.9.1") < ordered.index("1.10.0") < ordered.index("2.0-rc1")
    assert ordered.index("2.0-rc1") < ordered.index("2.0-rc2") < ordered.index("2.0") < ordered.index("v3")
    assert matching(None, ["1.0", "1.1", "2.0-rc1"]) == "1.1"
    assert matching("1", ["1.0", "1.10", "1.9", "10.0"]) == "1.10"
    assert matching("1.0", ["1.0", "1.0.5"]) == "1.0"
    with pytest.raises(LookupError):
        matching("3", ["1.0"])


def test_results_come_from_a_file_and_from_records_of_runs(tmp_path: Path) -> None:
    cube = written(tmp_path)
    (cube / "results").mkdir()
    (cube / "results.yaml").write_text("results:\n- {metric: accuracy, value: 0.5, unit: '%'}\n")
    record = {"task": "train", "status": "succeeded", "platform": {"name": "gpu"}, "started": "2025-01-31T10:00:00"}
    (cube / "results/one.json").write_text(json.dumps({**record, "seconds": {"run": 1.5}}))
    (cube / "results/two.json").write_text(json.dumps({**record, "status": "failed", "seconds": {"run": 1.5}}))
    (described,) = gather([str(cube)])
    assert [(each.metric, each.value, each.date) for each in described.entry.results] == [
        ("accuracy", 0.5, None),
        ("run time", 1.5, "2025-01-31"),
    ]
    (cube / "results/three.json").write_text("{}")
    with pytest.raises(InvalidFile, match="no record of a run"):
        gather([str(cube)])
    assert packed_results(list) == ()
    with pytest.raises(InvalidFile, match="no archive"):
        packed_results(lambda: [b"x" * 2000])


def test_results_that_are_none_are_told_with_their_place(tmp_path: Path) -> None:
    cube = written(tmp_path)
    (cube / "results.yaml").write_text("- {metric: a, value: 1}\n- {metric: b}\n")
    with pytest.raises(InvalidFile) as error:
        gather([str(cube)])
    problem: Any = error.value.problems[0]
    assert (problem.position.line, os.path.basename(problem.position.source)) == (2, "results.yaml")


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400"])
@pytest.mark.parametrize("before", ["", "results:\n"])
def test_a_result_that_no_index_can_hold_is_refused_with_its_place(tmp_path: Path, value: str, before: str) -> None:
    cube = written(tmp_path / "cubes")
    (cube / "results.yaml").write_text(f"{before}- {{metric: a, value: 1.5}}\n- {{metric: b, value: {value}}}\n")
    with pytest.raises(InvalidFile, match="a result is a number") as error:
        gather([str(tmp_path / "cubes")])
    position = error.value.problems[0].position
    assert position is not None
    assert (position.source, position.column) == (str(cube / "results.yaml"), 22)
    assert position.line == (3 if before else 2)


def test_an_index_that_no_cube_could_read_never_takes_the_place_of_one(tmp_path: Path) -> None:
    good = gather([str(written(tmp_path / "cubes"))])
    build(good, str(tmp_path / "site"))
    before = files_of(tmp_path / "site")
    odd = Entry(name="odd", version="2", results=(Result(metric="m", value=float("nan")),))
    with pytest.raises(CubeError, match="`odd 2` says what no index can hold"):
        build([*good, Described(entry=odd, source="odd")], str(tmp_path / "site"))
    assert files_of(tmp_path / "site") == before

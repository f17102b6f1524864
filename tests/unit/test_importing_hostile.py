"""Files of other tools may say anything: it becomes a cube file, or one error, and reads nothing from elsewhere."""

import json
import time
from pathlib import Path

import pytest

from mlcube.cli import create
from mlcube.errors import CubeError
from mlcube.importing import convert
from mlcube.reading import read_cube

COG = "predict: p.py:P\nbuild: {}\n"
PREDICT = "class P:\n  def predict(self, a: int = 1): pass\n"


@pytest.mark.parametrize(
    ("build", "code"),
    [
        ("{system_packages: 5}", PREDICT),
        ("{run: true}", PREDICT),
        ("{pre_install: text}", PREDICT),
        ("{python_packages: 5}", PREDICT),
        ("{}", "def P(a=" + "-" * 3000 + "1): pass"),
        ("{}", "def P(a=" + "+".join("1" * 5000) + "): pass"),
        ("{}", "\0"),
    ],
)
def test_a_cog_file_that_means_nothing_is_told(build: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format(build))
    (tmp_path / "p.py").write_text(code)
    with pytest.raises(CubeError) as caught:
        convert(str(tmp_path / "cog.yaml"))
    assert caught.value.problems


def test_what_is_no_value_is_left_to_the_cube_file(tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format("{}"))
    (tmp_path / "p.py").write_text("class P:\n  def predict(self, a: int = Input(ge={[]: 1})): pass\n")
    assert any("is computed" in note for note in convert(str(tmp_path / "cog.yaml")).notes)


@pytest.mark.parametrize(
    "text", ["FROM x\nENTRYPOINT " + "[" * 100_000, 'FROM x\nVOLUME "/a', 'FROM x\nLABEL "a\nCMD run']
)
def test_a_dockerfile_without_an_end_is_read_as_far_as_it_goes(text: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert "run" in convert(str(tmp_path / "Dockerfile")).data["tasks"]


def test_requirements_that_name_themselves_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format("{python_requirements: r.txt}"))
    (tmp_path / "p.py").write_text(PREDICT)
    (tmp_path / "r.txt").write_text("numpy\n-r ./r.txt\n-r s.txt\n-r s.txt\n")
    (tmp_path / "s.txt").write_text("pillow\n-r r.txt\n-r s.txt\n")
    assert convert(str(tmp_path / "cog.yaml")).data["python"]["requirements"] == ["numpy", "pillow"]


def test_a_link_that_leads_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token-of-mine\n")
    folder = tmp_path / "cube"
    folder.mkdir()
    (folder / "cog.yaml").write_text(COG.format("{python_requirements: r.txt}"))
    (folder / "p.py").write_text(PREDICT)
    (folder / "r.txt").symlink_to("../secret")
    with pytest.raises(CubeError, match="lies outside"):
        convert(str(folder / "cog.yaml"))


def test_a_boutiques_descriptor_whose_extensions_are_none_is_read(tmp_path: Path) -> None:
    (tmp_path / "boutiques.json").write_text(
        '{"name": "x", "command-line": "t [A]", "container-image": {"type": "docker", "image": "a/b"}, "inputs":'
        ' [{"id": "a", "type": "File", "value-key": "[A]"}], "output-files":'
        ' [{"id": "o", "path-template": "[A].x", "path-template-stripped-extensions": true}]}'
    )
    assert "run" in convert(str(tmp_path / "boutiques.json")).data["tasks"]


@pytest.mark.parametrize(
    ("kind", "default", "said"),
    [
        ("Number", "abc", "is no number"),
        ("Number", {}, "is no number"),
        ("Number", "9" * 400, "is no number"),
        ("String", {"a": 1}, "is no single value"),
    ],
)
def test_a_default_of_boutiques_that_is_none_is_told_with_its_place(
    kind: str, default: object, said: str, tmp_path: Path
) -> None:
    descriptor = {
        "command-line": "t [X]",
        "container-image": {"type": "docker", "image": "a/b"},
        "inputs": [{"id": "x", "type": kind, "value-key": "[X]", "default-value": default}],
    }
    (tmp_path / "boutiques.json").write_text(json.dumps(descriptor, indent=2))
    with pytest.raises(CubeError) as caught:
        convert(str(tmp_path / "boutiques.json"))
    (problem,) = caught.value.problems
    assert problem.message == f"the `default-value` of `x` {said}"
    assert problem.position
    assert problem.position.line == 12
    assert problem.hint


def inputs_of(folder: Path, arguments: str) -> "tuple[dict[str, dict[str, object]], list[str]]":
    """The inputs and the notes of a predictor with these arguments."""
    (folder / "cog.yaml").write_text(COG.format("{}"))
    (folder / "p.py").write_text(f"class P:\n  def predict(self, {arguments}): pass\n")
    draft = convert(str(folder / "cog.yaml"))
    return draft.data["tasks"]["predict"]["parameters"]["inputs"], list(draft.notes)


@pytest.mark.parametrize("default", ["'abc'", "[1]", "(1,)", "'1e999'"])
def test_a_float_whose_default_is_none_is_told_with_its_place(default: str, tmp_path: Path) -> None:
    with pytest.raises(CubeError) as caught:
        inputs_of(tmp_path, f"ä='ö', x: float = {default}")
    (problem,) = caught.value.problems
    assert str(problem.position) == "p.py:2:39"
    assert problem.message == "`x` is a float, and its default is no number"
    assert problem.hint


@pytest.mark.parametrize(
    "default",
    ["0x" + "f" * 6000, "b'x'", "1j", "'\\ud800'", "{}", "{1, 2}", "1e999", "Input(choices=[0x" + "f" * 6000 + "])"],
)
@pytest.mark.parametrize("kind", ["int", "float", "str"])
def test_what_a_cube_file_cannot_hold_is_noted_and_left_out(default: str, kind: str, tmp_path: Path) -> None:
    inputs, notes = inputs_of(tmp_path, f"x: {kind} = {default}")
    assert inputs["x"].keys() == {"type"}
    what = "choices" if "choices" in default else "default"
    assert f"`{what}` of `x` is no value that a cube file can hold: say another there" in notes


def test_three_dots_are_no_default(tmp_path: Path) -> None:
    inputs, notes = inputs_of(tmp_path, "x: str = ..., y: int = Input(default=...)")
    assert inputs == {"x": {"type": "string"}, "y": {"type": "integer"}}
    assert not any("default" in note for note in notes)


def test_a_number_of_too_many_digits_in_what_is_computed_is_told(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="more digits than can be read"):
        inputs_of(tmp_path, "x: int = f(0x" + "f" * 6000 + ")")


def test_arguments_that_only_their_place_tells_are_inputs(tmp_path: Path) -> None:
    inputs, _ = inputs_of(tmp_path, "a, b=2, /, c=3, *, d")
    assert {name: each.get("default") for name, each in inputs.items()} == {"a": None, "b": 2, "c": 3, "d": None}


def test_a_long_chain_of_requirement_files_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format("{python_requirements: r0.txt}"))
    (tmp_path / "p.py").write_text(PREDICT)
    for number in range(1500):
        (tmp_path / f"r{number}.txt").write_text(f"a{number}\n-r r{(number + 1) % 1500}.txt\nb{number}\n")
    wanted = [*(f"a{number}" for number in range(1500)), *(f"b{number}" for number in reversed(range(1500)))]
    assert convert(str(tmp_path / "cog.yaml")).data["python"]["requirements"] == wanted


def test_half_a_character_in_a_dockerfile_is_read_as_an_engine_reads_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM x\nENTRYPOINT ["a\\ud800", "\\ud83d\\ude00"]\nVOLUME ["/d\\udfff"]\n')
    (task,) = convert(str(tmp_path / "Dockerfile")).data["tasks"].values()
    assert task["entrypoint"] == ["a\ufffd", "\U0001f600"]
    assert task["parameters"]["inputs"]["d_"]["mount"] == "/d\ufffd"


@pytest.mark.parametrize("large", ["cog.yaml", "p.py", "r.txt"])
def test_what_nobody_can_have_written_is_not_read(large: str, tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format("{python_requirements: r.txt}"))
    (tmp_path / "p.py").write_text(PREDICT)
    (tmp_path / "r.txt").write_text("numpy\n")
    with (tmp_path / large).open("a") as file:
        file.write("#" * (1 << 20))
    with pytest.raises(CubeError) as caught:
        convert(str(tmp_path / "cog.yaml"))
    (problem,) = caught.value.problems
    assert problem.message == f"`{large}` is larger than 1 MiB, which no file written by hand is"
    assert problem.hint


def test_thousands_of_places_and_notes_take_no_long_time(tmp_path: Path) -> None:
    names = [f"x{number}" for number in range(2000)]
    descriptor = {
        "command-line": "tool " + " ".join(f"[{name}]" for name in names) + " [x" * 20_000,
        "container-image": {"type": "docker", "image": "a/b"},
        "inputs": [{"id": name, "value-key": f"[{name}]", "list": True} for name in names],
    }
    (tmp_path / "boutiques.json").write_text(json.dumps(descriptor))
    before = time.process_time()
    assert len(convert(str(tmp_path / "boutiques.json")).notes) == 2000
    assert time.process_time() - before < 3


ODD = "a\x7f\x85\u2028\u202e\ufeff\ufffe\U000e0001b"


def test_what_nobody_sees_is_written_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM x\nENTRYPOINT {json.dumps(['t', ODD, '${x}'])}\n")
    create.command(source=str(tmp_path / "Dockerfile"))
    assert read_cube(str(tmp_path), strict=True)[0].tasks["run"].entrypoint == ("t", ODD, "${x}")


def test_no_note_becomes_a_part_of_the_cube_file(tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG.format(r'{python_packages: ["-x\nlicense: theirs", "-\x7f\ufffe"]}'))
    (tmp_path / "p.py").write_text(PREDICT)
    create.command(source=str(tmp_path / "cog.yaml"))
    assert "license" not in {line.partition(":")[0] for line in (tmp_path / "mlcube.yaml").read_text().splitlines()}


def test_a_name_that_is_no_text_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile.\udcff"
    path.write_text("FROM x\n")
    with pytest.raises(CubeError, match="is no value that a cube file can hold"):
        create.command(source=str(path))
    assert not (tmp_path / "mlcube.yaml").exists()


def test_a_number_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "boutiques.json").write_text(
        '{"command-line": "t", "container-image": {"type": "docker", "image": "a/b"},'
        ' "inputs": [{"id": "x", "type": "Number", "minimum": .nan}]}'
    )
    with pytest.raises(CubeError, match="`nan` is no value that a cube file can hold"):
        create.command(source=str(tmp_path / "boutiques.json"))


@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_may_write_a_character_in_two_halves(ascii_only: bool, tmp_path: Path) -> None:
    text = "\U0001f600 \\ud83d\\ude00"
    descriptor = {
        "description": text,
        "command-line": "t",
        "container-image": {"type": "docker", "image": "a/b"},
    }
    (tmp_path / "boutiques.json").write_text(json.dumps(descriptor, ensure_ascii=ascii_only))
    assert convert(str(tmp_path / "boutiques.json")).data["description"] == text


@pytest.mark.parametrize(
    ("line", "identifier", "extensions"),
    [("[X]" * 300_000, "x" * 5000, []), ("t", "x", ["." * 30] * 10_000), ("t", "x" * 10_000, ["a"])],
)
def test_a_script_that_nothing_could_start_is_told(
    line: str, identifier: str, extensions: "list[str]", tmp_path: Path
) -> None:
    output = {"id": "o", "path-template": "[X]" * 5000, "path-template-stripped-extensions": extensions}
    descriptor = {
        "command-line": line,
        "container-image": {"type": "docker", "image": "a/b"},
        "inputs": [{"id": identifier, "value-key": "[X]"}],
        "output-files": [output],
    }
    (tmp_path / "boutiques.json").write_text(json.dumps(descriptor))
    with pytest.raises(CubeError, match="the command line becomes longer than 128 KiB"):
        convert(str(tmp_path / "boutiques.json"))


CONTAINER = '"command-line": "t", "container-image": {"type": "docker", "image": "a/b"}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Dockerfile", "RUN x\n"),
        ("container_config.yaml", "image: x\n"),
        ("cog.yaml", "build: 5\n"),
        ("cog.yaml", "- predict\n"),
        ("cog.yaml", "predict: p.py:P\nbuild: {system_packages: 5}\n"),
        ("cog.yaml", "predict: p.py:P\nbuild: {run: 5}\n"),
        ("cog.yaml", "predict: bad.py:P\n"),
        ("MLproject", "entry_points: {main: {}}\n"),
        ("MLproject", "docker_env: {a: 1}\nentry_points: {main: {command: a}}\n"),
        ("MLproject", "python_env: list.yaml\nentry_points: {main: {command: a}}\n"),
        ("MLproject", "conda_env: conda.yaml\nentry_points: {main: {command: a}}\n"),
        ("boutiques.json", f'{{{CONTAINER}, "inputs": 5}}'),
        ("boutiques.json", f'{{{CONTAINER}, "inputs": [{{}}]}}'),
        ("boutiques.json", f'{{{CONTAINER}, "output-files": [{{"id": "o"}}]}}'),
        ("boutiques.json", f'{{{CONTAINER}, "environment-variables": 5}}'),
    ],
)
def test_who_is_told_what_is_wrong_is_told_where_and_what_to_write(name: str, text: str, tmp_path: Path) -> None:
    files = {"p.py": PREDICT, "bad.py": "x = (\n", "list.yaml": "- a\n", "conda.yaml": "dependencies: 5\n", name: text}
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(CubeError) as caught:
        convert(str(tmp_path / name))
    assert all(problem.hint and problem.position for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("argument", "kind", "default"),
    [
        ("x: 'float' = -1.5", "float", -1.5),
        ("x: 'Optional[int]' = 3", "integer", 3),
        ("x=2", "integer", 2),
        ("x=-2.5", "float", -2.5),
        ("x=True", "boolean", True),
        ("x='a'", "string", "a"),
        ("x: Any = 5", "string", "5"),
        ("x: Literal[1, 2] = Input(default=2, choices=[1, 2])", "string", "2"),
    ],
)
def test_a_default_and_its_type_belong_together(argument: str, kind: str, default: object, tmp_path: Path) -> None:
    inputs, _ = inputs_of(tmp_path, argument)
    assert (inputs["x"]["type"], inputs["x"]["default"]) == (kind, default)
    create.command(source=str(tmp_path / "cog.yaml"))
    assert read_cube(str(tmp_path), strict=True)[1] == ()


def test_what_a_type_cannot_have_is_noted_and_left_out(tmp_path: Path) -> None:
    inputs, notes = inputs_of(tmp_path, "x: Any = Input(default='a', ge=1, le=2, min_length=1, regex='a')")
    assert inputs["x"] == {"type": "string", "default": "a", "pattern": "a"}
    assert {f"`{name}` of `x` was left out" for name in ("ge", "le", "min_length")} <= set(notes)


def test_names_that_would_become_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="`变` and `量` would both be called `_` in the cube"):
        inputs_of(tmp_path, "变=1, 量=2")
    for points in (
        "{'a b': {command: x}, a_b: {command: x}}",
        "{m: {command: x, parameters: {'a b': path, a_b: path}}}",
    ):
        (tmp_path / "MLproject").write_text(f"entry_points: {points}\n")
        with pytest.raises(CubeError, match="`a b` and `a_b` would both be called `a_b` in the cube") as caught:
            convert(str(tmp_path / "MLproject"))
        assert all(problem.hint and problem.position for problem in caught.value.problems)

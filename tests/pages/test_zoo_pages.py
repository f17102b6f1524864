"""The pages of a zoo in a real browser: served below a path, and from a file."""

import functools
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from mlcube.zoo.building import build
from mlcube.zoo.entries import Entry, Parameter, Result, Signature, Task
from mlcube.zoo.sources import Described
from tests.pages.browser import Browser

pytestmark = pytest.mark.engine("chromium")

EVIL = '</script><img src=x onerror="window.broken=1">\''
DIGEST = "sha256:" + "ab" * 32
CARD = f"""# digits

It *reads* digits. [Paper](https://example.org) [bad](javascript:window.broken=1) ![p](https://e.org/x.png)

{EVIL}
"""


def cubes() -> list[Described]:
    """Sixty, two of them worth looking at."""
    data = Parameter(name="data", type="directory", default="data/")
    model = Parameter(name="model", type="directory", default="model/")
    epochs = Parameter(name="epochs", type="integer", default=25, minimum=1, description="Passes over `data`.")
    digits = Entry(
        name="digits",
        version="1.2.0",
        description="Reads handwritten digits.",
        authors=("Zoë",),
        license="Apache-2.0",
        links={"paper": "https://example.org/paper"},
        reference=f"oci://registry.example/lab/digits@{DIGEST}",
        tags=("1.2.0", "latest"),
        digest=DIGEST,
        size=123_456_789,
        image=f"registry.example/lab/digits-image@{DIGEST}",
        platforms=("docker", "singularity", "slurm"),
        accelerator="gpu",
        tasks=(
            Task(name="train", kind="train", inputs=(data, epochs), outputs=(model,), needs={"gpus": 1}),
            Task(name="infer", kind="infer", inputs=(model,), outputs=(Parameter(name="out", default="out.csv"),)),
        ),
        signatures=(Signature(key=DIGEST, name="lab"),),
        results=(Result(metric="accuracy", value=0.97, task="train"),),
    )
    hostile = Task(name=EVIL, outputs=(Parameter(name=EVIL),))
    evil = Entry(
        name=EVIL,
        version=EVIL,
        description=EVIL,
        license=EVIL,
        authors=(EVIL,),
        platforms=("local",),
        digest=DIGEST,
        tasks=(hostile,),
    )
    other = f"oci://registry.example/lab/digits@{DIGEST[:-1]}c"
    older = msgspec.structs.replace(digits, version="1.1.0", reference=other)
    one = Entry(name="", description="One of many.", license="MIT", platforms=("docker",), digest=DIGEST)
    one = msgspec.structs.replace(one, tasks=(Task(name="train", kind="train"),))
    many = [msgspec.structs.replace(one, name=f"model-{number:02}") for number in range(57)]
    cards = {"digits": CARD}
    return [Described(entry=each, source=each.name, card=cards.get(each.name)) for each in (evil, digits, older, *many)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "a" / "zoo"
    build(cubes(), str(folder), title="Test zoo", url="https://lab.example/zoo")
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    missing: list[str] = []  # noqa: RUF012 - what all requests together did not find

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Note what is not there."""
        self.missing.append(self.path)
        super().send_error(code, message, explain)


@pytest.fixture(scope="module", params=["served", "file"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """Where the zoo is: below a path of a server, or in a file."""
    if request.param == "file":
        yield f"file://{site}"
        return
    handler = functools.partial(_Quiet, directory=str(site.parent.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/a/zoo"
        finally:
            server.shutdown()
            thread.join()
    assert _Quiet.missing == []


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, address: str) -> Iterator[Browser]:
    """The search page, just opened; at the end nothing was asked of anybody else, and nobody complained."""
    window.open("about:blank")
    window.complaints()
    window.requests()
    window.open(f"{address}/index.html")
    yield window
    assert [url for url in window.requests() if not url.startswith((address, "about:"))] == []
    assert window.complaints() == []
    assert window.run("return window.broken") is None


def until(wanted: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def names(browser: Browser) -> list[str]:
    return browser.texts("#found a")


def test_what_is_typed_is_found(browser: Browser) -> None:
    assert browser.text("#count") == "59 cubes"
    until(lambda: len(names(browser)) == 24)
    browser.click("#q")
    browser.write("digi")
    assert names(browser) == ["digits"]
    assert browser.text("#count") == "1 of 59 cubes"
    browser.write("xyz")
    assert "No cube is like that" in browser.text("#count")
    browser.press("Escape")
    until(lambda: browser.text("#count") == "59 cubes")
    browser.write("zoë lab/digits TRAIN")
    assert names(browser) == ["digits"]


def test_filters_narrow_what_is_found_and_are_kept_in_the_address(browser: Browser) -> None:
    browser.choose("#licence", "MIT")
    assert browser.text("#count") == "57 of 59 cubes"
    browser.choose("#licence", "")
    browser.choose("#kind", "infer")
    browser.choose("#platform", "singularity")
    browser.choose("#accelerator", "gpu")
    assert names(browser) == ["digits"]
    until(lambda: "kind=infer" in str(browser.run("return location.hash")))
    browser.run("location.reload()")
    until(lambda: names(browser) == ["digits"])
    assert browser.run("return document.getElementById('platform').value") == "singularity"
    browser.click("#clear")
    until(lambda: browser.text("#count") == "59 cubes")


def test_more_is_shown_when_asked_for(browser: Browser) -> None:
    until(lambda: len(names(browser)) == 24)
    browser.click("#more")
    assert len(names(browser)) == 59
    assert browser.run("return document.activeElement.textContent") == names(browser)[24]
    assert browser.run("return document.getElementById('more').hidden") is True


def test_everything_can_be_done_with_the_keyboard(browser: Browser) -> None:
    browser.press("Tab")
    assert browser.run("return document.activeElement.textContent") == "Skip to the content"
    assert browser.run("return document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    assert browser.run("return document.activeElement.id") == "main"
    browser.press("/")
    assert browser.run("return document.activeElement.id") == "q"
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.write("digits")
    browser.press("ArrowDown")
    assert browser.run("return document.activeElement.textContent") == "digits"
    browser.press("ArrowUp")
    assert browser.run("return document.activeElement.id") == "q"
    browser.press("ArrowDown", "Enter")
    until(lambda: "digits-1.2.0" in str(browser.run("return location.pathname")))
    assert browser.text("h1") == "digits 1.2.0"


def test_a_cubes_page_shows_what_there_is(browser: Browser, address: str) -> None:
    browser.open(f"{address}/cubes/digits-1.2.0.html")
    page = browser.text("main")
    for shown in ("Reads handwritten digits.", "Apache-2.0", "123 MB", DIGEST, "accuracy", "0.97", "lab", "1.1.0"):
        assert shown in page
    assert browser.text("section.card em") == "reads"
    links = browser.run("return [...document.querySelectorAll('section.card a')].map(a => a.href)")
    assert links == ["https://example.org/", "https://e.org/x.png"]
    drawn = browser.run("return [...document.querySelectorAll('svg.graph text')].map(e => e.textContent)")
    assert sorted(drawn) == ["data", "infer", "model", "out.csv", "train"]
    wanted = f"cube run oci://registry.example/lab/digits@{DIGEST} --task infer"
    assert browser.texts(".pick .chosen code") == [wanted]
    browser.choose("#pick", "3")
    assert browser.texts(".pick .chosen code") == [f"{wanted} --platform slurm"]
    commands = browser.texts(".command code")
    assert "cube zoo add zoo https://lab.example/zoo" in commands
    browser.click("aside dd a[href*='1.1.0']")
    until(lambda: browser.text("h1") == "digits 1.1.0")


def test_commands_are_copied(browser: Browser, address: str) -> None:
    browser.open(f"{address}/cubes/digits-1.2.0.html")
    browser.devtools("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    wanted = browser.text(".command code")
    browser.click(".command .copy")
    until(lambda: browser.text(".command .copy") == "Copied")
    assert browser.run("return navigator.clipboard.readText()") == wanted
    assert browser.run("return document.getElementById('told').textContent") == "The command is copied."


def test_hostile_text_is_text(browser: Browser) -> None:
    browser.click("#q")
    browser.write("onerror")
    assert names(browser) == [EVIL]
    browser.press("ArrowDown", "Enter")
    until(lambda: "/cubes/" in str(browser.run("return location.pathname")))
    assert EVIL in browser.text("h1")
    assert browser.run("return document.images.length") == 0


def test_all_cubes_are_listed_for_who_has_no_script(browser: Browser, address: str) -> None:
    browser.open(f"{address}/all.html")
    assert len(browser.texts("main li a")) == 59
    browser.click("main li:nth-child(2) a")
    until(lambda: browser.text("h1").startswith("digits"))


def test_every_control_has_a_name_and_every_page_its_structure(browser: Browser, address: str) -> None:
    for page in ("index.html", "cubes/digits-1.2.0.html", "all.html"):
        browser.open(f"{address}/{page}")
        nodes = browser.devtools("Accessibility.getFullAXTree", {})["nodes"]
        found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]
        nameless = [
            role for role, name in found if role in ("button", "combobox", "searchbox", "link", "image") and not name
        ]
        assert nameless == []
        assert [name for role, name in found if role == "main"] != []
        assert browser.run("return document.querySelectorAll('h1').length") == 1
        assert browser.run("return document.documentElement.lang") == "en"
        levels = browser.run("return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert all(after - before <= 1 for before, after in pairwise(levels))
    browser.open(f"{address}/index.html")
    assert browser.run("return document.getElementById('count').getAttribute('aria-live')") == "polite"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG measures it."""

    def luminance(colour: str) -> float:
        parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


COLOURS = """
return [...document.querySelectorAll(arguments[0])].map((each) => {
  let behind = each;
  while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  return [getComputedStyle(each).color, getComputedStyle(behind || document.body).backgroundColor, each.textContent];
})
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_light_and_dark_and_on_a_phone(tmp_path: Path, site: Path, dark: bool) -> None:
    with Browser(tmp_path, dark=dark, width=360, height=740) as phone:
        for page in ("index.html", "cubes/digits-1.2.0.html"):
            phone.open(f"file://{site}/{page}")
            assert phone.run("return document.documentElement.scrollWidth") <= 360
            for colour, ground, text in phone.run(
                COLOURS, "p, a, dt, dd, li, h1, h2, label, button, td, th, code, .quiet"
            ):
                assert contrast(colour, ground) >= 4.5, text
            small = phone.run(
                "return [...document.querySelectorAll('button, input, select')].filter(e => e.offsetParent)"
                ".map(e => e.getBoundingClientRect().height).filter(height => height < 40)"
            )
            assert small == []
        ground = phone.run("return getComputedStyle(document.body).backgroundColor")
        assert contrast(ground, "rgb(255, 255, 255)") > 10 if dark else contrast(ground, "rgb(0, 0, 0)") > 10

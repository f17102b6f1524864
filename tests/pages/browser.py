"""A browser for tests: Chromium, driven by chromedriver in the words of the WebDriver protocol."""

import base64
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
KEYS = {"ArrowDown": "\ue015", "ArrowUp": "\ue013", "Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004"}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window. Used as a context, it ends with its driver."""

    def __init__(self, folder: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        self.folder, self._dark = folder, dark
        self._size = (width, height)

    def __enter__(self) -> "Browser":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = (self.folder / f"chromedriver-{self._port}.log").open("wb")
        argv = ["chromedriver", f"--port={self._port}"]
        self._driver = subprocess.Popen(argv, stdout=self._log, stderr=subprocess.STDOUT)
        try:
            self._await_driver()
            self._session = self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("DELETE", f"/session/{self._session}")
        finally:
            self._end()

    def _end(self) -> None:
        self._driver.terminate()
        self._driver.wait(20)
        self._log.close()

    def _await_driver(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self._ask("GET", "/status")
                return
            except OSError:  # noqa: PERF203 - until it answers
                if time.monotonic() > deadline or self._driver.poll() is not None:
                    raise
                time.sleep(0.05)

    def _begin(self) -> str:
        profile = self.folder / f"profile-{self._port}"
        options = {
            "args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={self._size[0]},{self._size[1]}"],
            "perfLoggingPrefs": {"enableNetwork": True, "enablePage": False},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        begun = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = str(begun["sessionId"])
        width, height = self._size
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        return self._session

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise AssertionError(f"{path}: {found.get('error')}: {found.get('message')}")
        return found

    def _do(self, what: str, body: Any = None) -> Any:
        return self._ask("POST", f"/session/{self._session}/{what}", body or {})

    def devtools(self, command: str, parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._do("goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._do("url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns, or what its promise comes to."""
        return self._do("execute/sync", {"script": script, "args": list(arguments)})

    def _find(self, selector: str) -> str:
        found = self._do("element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def click(self, selector: str) -> None:
        """Click with the mouse on what a selector finds first."""
        self._do(f"element/{self._find(selector)}/click")

    def press(self, *keys: str) -> None:
        """Press and release keys, one after the other, wherever the focus is."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._do("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def write(self, text: str) -> None:
        """Type a text."""
        self.press(*text)

    def text(self, selector: str) -> str:
        """What is shown of an element."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def texts(self, selector: str) -> list[str]:
        """What is shown of each element."""
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector))

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list, as a user would."""
        self._do(f"element/{self._find(f'{selector} option[value={json.dumps(value)}]')}/click")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        picture = self.devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(picture["data"]))

    def complaints(self) -> list[str]:
        """What was written to the console since this was asked last."""
        return [str(each["message"]) for each in self._do("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """The addresses that were asked for since this was asked last."""
        found = []
        for each in self._do("se/log", {"type": "performance"}):
            message = json.loads(each["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(str(message["params"]["request"]["url"]))
        return found

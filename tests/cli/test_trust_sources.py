"""A rule is about a source, however it is written, and about the one that answers."""

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.signed import cube, refused

ASKED: list[str] = []


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Leads everything to another server, which notes that it was asked."""

    def do_GET(self) -> None:
        ASKED.append(self.path)
        if self.path.startswith("/elsewhere"):
            self.send_response(404)
        else:
            self.send_response(302)
            self.send_header("Location", f"http://{self.headers['Host']}/elsewhere{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def redirecting() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def policy(home: Path, text: str) -> None:
    (home / "config").mkdir(exist_ok=True)
    (home / "config/trust.yaml").write_text(text)


def test_git_asks_only_whom_a_rule_was_asked_about(redirecting: str, tmp_path: Path) -> None:
    policy(tmp_path, f"rules: [{{names: ['{redirecting}/**'], allow: always}}]\n")
    ASKED.clear()
    refused(cube("pull", f"git+{redirecting}/lab/x", home=tmp_path), 78, "leads to another address")
    assert ASKED
    assert not [each for each in ASKED if each.startswith("/elsewhere")]


def test_a_repository_here_has_its_folders_name(tmp_path: Path) -> None:
    repository = tmp_path / "real"
    repository.mkdir()
    (repository / "mlcube.yaml").write_text("name: x\ndocker: {image: x}\ntasks: {t: {}}\n")
    git = ["git", "-C", str(repository), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "link").symlink_to("real")
    names = (f"git+file://{repository}", f"git+file://{tmp_path}/link", f"git+file://{tmp_path}/%72eal")
    for rule in (f"file://{repository}", str(repository)):
        policy(tmp_path, f"rules: [{{names: ['{rule}'], allow: never}}]\ndefault: always\n")
        for name in names:
            refused(cube("pull", name, home=tmp_path), 78, "is forbidden by the rule at")
    policy(tmp_path, f"rules: [{{names: ['{repository}'], allow: always}}]\n")
    done = cube("pull", names[1], home=tmp_path)
    assert done.returncode == 0, done.stderr


def test_verify_says_of_an_address_what_pull_would_say(tmp_path: Path) -> None:
    policy(tmp_path, "rules: [{names: ['*://evil.example/**'], allow: never}]\ndefault: always\n")
    for name in ("git+https://EVIL.example:443/lab/x", "git@evil.example:lab/x"):
        for verb in ("verify", "pull"):
            refused(cube(verb, name, home=tmp_path), 78, "is forbidden by the rule at")
    done = cube("verify", "git+https://evil.example?.good.example/x", home=tmp_path)
    refused(done, 78, "may lead elsewhere than it seems")


def test_a_link_beside_other_code_is_no_allowed_cube(tmp_path: Path) -> None:
    for name, text in (("allowed", "print('allowed')"), ("evil", "print('evil')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hi.py").write_text(f"{text}\n")
    (tmp_path / "allowed/mlcube.yaml").write_text(
        'name: x\npython: {version: ">=3.10"}\ntasks: {hi: {entrypoint: python hi.py}}\n'
    )
    (tmp_path / "evil/mlcube.yaml").symlink_to(tmp_path / "allowed/mlcube.yaml")
    policy(tmp_path, f"rules: [{{names: ['{tmp_path}/allowed/**'], allow: always}}]\n")
    run = ("--task=hi", "--platform=local")
    done = cube("run", f"--mlcube={tmp_path}/allowed", *run, home=tmp_path)
    assert "allowed" in done.stdout, done.stderr
    for name in ("evil", "evil/mlcube.yaml"):
        done = cube("run", f"--mlcube={tmp_path}/{name}", *run, home=tmp_path)
        refused(done, 78, "is forbidden by the default of")

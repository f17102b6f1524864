"""Signed cubes, from the key to the run: what cosign says of them, and whatever is changed on the way is seen."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.own_registry import own_registry

WITNESSES = Path(os.environ.get("ENGINES_STATE", "/var/tmp/mlcube-engines"), "witnesses/bin")
PASSPHRASE = "a passphrase for the tests"
IGNORING = ("--insecure-ignore-tlog=true", "--allow-insecure-registry")

CUBE = """\
name: hello
python: {version: ">=3.10", requirements: []}
tasks:
  hi: {entrypoint: python hi.py}
"""


def cube(
    *words: str, home: Path, passphrase: str | None = PASSPHRASE, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """`cube`, with a configuration and a cache of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CUBE_KEY_PASSWORD"},
        "HOME": str(home),
        "CUBE_CONFIG_DIR": str(home / "config"),
        "CUBE_CACHE_DIR": str(home / "cache"),
        "CUBE_STATE_DIR": str(home / "state"),
        "CUBE_REGISTRY_PATIENCE": "0",
        **variables,
    }
    if passphrase is not None:
        environment["CUBE_KEY_PASSWORD"] = passphrase
    argv = [sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environment, cwd=home, stdin=subprocess.DEVNULL, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert PASSPHRASE not in done.stdout + done.stderr
    return done


def refused(done: "subprocess.CompletedProcess[str]", status: int, words: str) -> None:
    """It failed as it should, in one sentence."""
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr


class Site(NamedTuple):
    """A registry with a signed and an unsigned cube, and the machine that published them."""

    home: Path
    files: Path
    """What the registry keeps."""
    address: str
    digest: str
    unsigned: str

    @property
    def signed(self) -> str:
        """By its digest."""
        return f"oci://{self.address}/signed@{self.digest}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    folder = home / "hello"
    folder.mkdir()
    (folder / "mlcube.yaml").write_text(CUBE)
    (folder / "hi.py").write_text("print('hello')\n")
    (folder / "README.md").write_text("# Hello\n")
    (folder / "weights").write_bytes(random.Random(1).randbytes(300_000))
    for name in ("lab", "other"):
        done = cube("key", "create", name, home=home)
        assert done.returncode == 0, done.stderr
    with own_registry(home / "registry") as address:
        done = cube("publish", "hello", f"oci://{address}/signed:1", "--sign", "--key", "lab.key", "--json", home=home)
        assert done.returncode == 0, done.stderr
        digest = json.loads(done.stdout)["digest"]
        (folder / "hi.py").write_text("print('changed')\n")
        done = cube("publish", "hello", f"oci://{address}/signed:unsigned", "--json", home=home)
        assert done.returncode == 0, done.stderr
        yield Site(home, home / "registry", address, digest, json.loads(done.stdout)["digest"])


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Path:
    """An empty machine with a policy: everything of the registry must be signed by the lab."""
    home = tmp_path / "machine"
    (home / "config").mkdir(parents=True)
    shutil.copy(site.home / "lab.pub", home / "config")
    (home / "config/trust.yaml").write_text(
        f"keys: {{lab: lab.pub}}\nrules:\n  - {{registries: ['{site.address}'], allow: signed}}\n"
    )
    return home


pytestmark = pytest.mark.engine("registry")


def test_a_signed_cube_is_pulled_and_another_is_not(site: Site, machine: Path) -> None:
    done = cube("pull", site.signed, home=machine)
    assert done.returncode == 0, done.stderr
    refused(
        cube("pull", f"oci://{site.address}/signed:unsigned", home=machine),
        78,
        f"{site.unsigned}` is not signed, and the rule at {machine}/config/trust.yaml:3 asks for a signature by `lab`",
    )
    assert not (machine / f"cache/store/cubes/{site.unsigned.removeprefix('sha256:')}").exists()
    # Kept signatures are enough where no registry can be asked.
    done = cube("pull", site.signed, home=machine, CUBE_OFFLINE="1")
    assert done.returncode == 0, done.stderr


def test_a_kept_cube_is_asked_about_on_every_use(site: Site, machine: Path) -> None:
    """What was pulled before there was a policy does not run because it is here."""
    policy = machine / "config/trust.yaml"
    kept = policy.read_text()
    policy.unlink()
    assert cube("pull", f"oci://{site.address}/signed:unsigned", home=machine).returncode == 0
    policy.write_text(kept)
    for words in (("run", "--task=hi", "--platform=local"), ("configure", "--platform=local"), ("pull",)):
        text = f"oci://{site.address}/signed@{site.unsigned}"
        refused(cube(words[0], text, *words[1:], home=machine), 78, "is not signed")
    policy.write_text("default: never\n")
    refused(cube("pull", site.signed, home=machine), 78, "is forbidden by")


def test_the_key_of_somebody_else_does_not_count(site: Site, machine: Path) -> None:
    shutil.copy(site.home / "other.pub", machine / "config/lab.pub")
    refused(cube("pull", site.signed, home=machine), 78, "is signed, but by none of these keys")
    refused(cube("verify", site.signed, "--key", str(site.home / "other.pub"), home=machine), 78, "by none of these")


def test_paths_bundles_and_addresses_follow_the_policy(site: Site, machine: Path) -> None:
    folder = str(site.home / "hello")
    for words in (
        ("run", f"--mlcube={folder}", "--task=hi", "--platform=local"),
        ("configure", f"--mlcube={folder}", "--platform=local"),
        ("bundle", "create", folder, "-o", "x.cube", "--without-tool"),
        ("pull", "git+https://127.0.0.1:1/r.git#v1"),
        ("pull", f"https://127.0.0.1:1/a.tar#sha256={'0' * 64}"),
    ):
        done = cube(*words, home=machine)
        if done.returncode == 68 and words[0] == "pull":  # a git ref is resolved first
            continue
        refused(done, 78, "is forbidden by the default of")
    assert not (machine / "x.cube").exists()
    (machine / "config/trust.yaml").write_text(f"rules: [{{kinds: [path], names: ['{folder}'], allow: always}}]\n")
    done = cube("describe", f"--mlcube={folder}", home=machine)
    assert done.returncode == 0, done.stderr
    done = cube("bundle", "create", folder, "-o", "x.cube", "--without-tool", home=machine)
    assert done.returncode == 0, done.stderr
    refused(cube("pull", "./x.cube", home=machine), 78, "is forbidden")


def test_nothing_takes_the_place_of_what_was_signed(site: Site, machine: Path) -> None:
    text = site.signed
    for override in ("docker.image=evil:latest", "tasks.hi.entrypoint=evil"):
        done = cube("run", text, "--task=hi", "--platform=local", "-P", override, home=machine)
        refused(done, 78, f"`-P {override.partition('=')[0]}` changes a cube")


def test_a_policy_that_cannot_be_followed_stops_everything(site: Site, machine: Path) -> None:
    for text, words in (
        ("ruels: []\n", "unknown key `ruels`"),
        ("rules: [", "trust.yaml:1"),
        ("a: \xff", "trust.yaml:1"),
    ):
        (machine / "config/trust.yaml").write_bytes(text.encode("latin-1"))
        done = cube("pull", site.signed, home=machine)
        refused(done, 2, words)
    (machine / "config/trust.yaml").unlink()
    refused(cube("pull", site.signed, home=machine, CUBE_TRUST=str(machine / "none.yaml")), 66, "there is no file")


@pytest.mark.engine("witnesses")
def test_cosign_accepts_what_cube_signed_and_cube_what_cosign_signed(site: Site) -> None:
    image = f"{site.address}/signed@{site.digest}"
    witness = cosign("verify", "--key", "lab.pub", *IGNORING, image, home=site.home)
    assert witness.returncode == 0, witness.stderr
    assert json.loads(witness.stdout)[0]["critical"]["image"]["docker-manifest-digest"] == site.digest
    assert cosign("verify", "--key", "other.pub", *IGNORING, image, home=site.home).returncode != 0

    name = f"oci://{site.address}/signed@{site.unsigned}"
    unsigned = f"{site.address}/signed@{site.unsigned}"
    copied = shutil.copytree(site.files, site.home / "copied")
    # cosign makes a key of its own, and signs with one of ours: its files are read here, and ours there.
    assert cosign("generate-key-pair", home=site.home).returncode == 0
    signing = ("--tlog-upload=false", "--allow-insecure-registry", "--yes")
    for key in ("cosign", "other"):
        refused(
            cube("verify", name, "--key", f"{key}.pub", home=site.home), 78, "is not signed" if key == "cosign" else ""
        )
        done = cosign("sign", "--key", f"{key}.key", *signing, unsigned, home=site.home)
        assert done.returncode == 0, done.stderr
        done = cube("verify", name, "--key", f"{key}.pub", home=site.home)
        assert done.returncode == 0, done.stderr
    done = cube("sign", name, "--key", "cosign.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(site.files)
    copied.rename(site.files)


def cosign(*words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HOME": str(home), "COSIGN_PASSWORD": PASSPHRASE}
    argv = [str(WITNESSES / "cosign"), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=home, timeout=60)


def test_several_sign_one_cube(site: Site) -> None:
    done = cube("publish", "hello", f"oci://{site.address}/several:1", home=site.home)
    assert done.returncode == 0, done.stderr
    text = f"oci://{site.address}/several:1"
    for key in ("lab", "other", "lab"):
        done = cube("sign", text, "--key", f"{key}.key", home=site.home)
        assert done.returncode == 0, done.stderr
    for key in ("lab", "other"):
        assert cube("verify", text, "--key", f"{key}.pub", home=site.home).returncode == 0


class Layer(NamedTuple):
    """A blob of the registry, by what it is."""

    what: str
    digest: str


def layers(site: Site) -> list[Layer]:
    """Everything that a pull of the signed cube reads."""
    manifest = json.loads(blob(site, site.digest).read_bytes())
    signatures = (
        site.files / f"docker/registry/v2/repositories/signed/_manifests/tags/{site.digest.replace(':', '-')}.sig"
    )
    signed = (signatures / "current/link").read_text()
    found = json.loads(blob(site, signed).read_bytes())
    return [
        Layer("manifest", site.digest),
        Layer("config", manifest["config"]["digest"]),
        *(Layer(each["mediaType"], each["digest"]) for each in manifest["layers"]),
        Layer("signatures", signed),
        Layer("payload", found["layers"][0]["digest"]),
    ]


def blob(site: Site, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return site.files / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"


def test_a_changed_byte_is_seen_wherever_it_is(site: Site, machine: Path) -> None:
    """In the manifest, the configuration, each layer, the manifest of signatures and its payload."""
    dice = random.Random(7)
    kinds = set()
    for what, digest in layers(site):
        path = blob(site, digest)
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        try:
            done = cube("pull", site.signed, home=machine)
        finally:
            path.write_bytes(whole)
        assert done.returncode in (65, 68, 78), (what, done.stdout, done.stderr)
        assert done.stderr.count("error: ") == 1, done.stderr
        assert not list((machine / "cache").glob("store/cubes/*/cube")), what
        kinds.add(what)
        shutil.rmtree(machine / "cache", ignore_errors=True)
    assert len(kinds) >= 7, kinds
    assert cube("pull", site.signed, home=machine).returncode == 0


def _with_other_signature(document: dict[str, Any]) -> None:
    text = document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"]
    document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = text[:20] + "AAAA" + text[24:]


def _with_no_base64(document: dict[str, Any]) -> None:
    document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = "%%%"


def _without_layers(document: dict[str, Any]) -> None:
    document["layers"] = []


@pytest.mark.parametrize("change", [_with_other_signature, _with_no_base64, _without_layers])
def test_signatures_that_are_put_anew_by_somebody_else_count_for_nothing(
    change: Callable[[dict[str, Any]], None], site: Site, machine: Path
) -> None:
    """The registry itself would swear to them: digests are right, only the key is not there."""
    with signatures_instead(site, change):
        refused(cube("pull", site.signed, home=machine), 78, "sign")
    assert cube("pull", site.signed, home=machine).returncode == 0


class signatures_instead:  # noqa: N801
    """Has the registry give another, well-formed manifest of signatures."""

    def __init__(self, site: Site, change: Callable[[dict[str, Any]], None]) -> None:
        name = f"{site.digest.replace(':', '-')}.sig"
        manifests = site.files / "docker/registry/v2/repositories/signed/_manifests"
        self.link = manifests / f"tags/{name}/current/link"
        self.former = self.link.read_text()
        document = json.loads(blob(site, self.former).read_bytes())
        change(document)
        content = json.dumps(document).encode()
        self.digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = blob(site, self.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        revision = manifests / f"revisions/sha256/{self.digest.removeprefix('sha256:')}/link"
        revision.parent.mkdir(parents=True, exist_ok=True)
        revision.write_text(self.digest)

    def __enter__(self) -> None:
        self.link.write_text(self.digest)

    def __exit__(self, *_: object) -> None:
        self.link.write_text(self.former)


def test_a_signature_of_another_cube_is_none(site: Site, machine: Path) -> None:
    """The tag of the signatures leads to the right key's signature, over another digest."""
    tags = site.files / "docker/registry/v2/repositories/signed/_manifests/tags"
    source = tags / f"{site.digest.replace(':', '-')}.sig"
    target = tags / f"{site.unsigned.replace(':', '-')}.sig"
    shutil.copytree(source, target)
    try:
        done = cube("pull", f"oci://{site.address}/signed@{site.unsigned}", home=machine)
    finally:
        shutil.rmtree(target)
    refused(done, 78, "by none of these keys")


def test_what_was_verified_is_what_runs_also_when_the_tag_moves(site: Site, machine: Path) -> None:
    """The tag leads elsewhere at every other moment; whatever is pulled is the signed cube, or nothing."""
    link = site.files / "docker/registry/v2/repositories/signed/_manifests/tags/1/current/link"
    moving = subprocess.Popen(
        [sys.executable, "-c", MOVING, str(link), site.digest, site.unsigned], stdin=subprocess.DEVNULL
    )
    outcomes = set()
    try:
        for _ in range(4):
            done = cube("pull", f"oci://{site.address}/signed:1", home=machine)
            outcomes.add(done.returncode)
            kept = {path.name for path in (machine / "cache").glob("store/cubes/*")}
            assert kept <= {site.digest.removeprefix("sha256:")}, done.stderr
            assert done.returncode in (0, 65, 66, 68, 78), done.stderr
    finally:
        moving.kill()
        moving.wait()
        link.write_text(site.digest)
    assert outcomes & {0, 78}


MOVING = """\
import itertools, os, sys
link, *digests = sys.argv[1:]
for digest in itertools.cycle(digests):
    with open(link + ".new", "w") as file:
        file.write(digest)
    os.replace(link + ".new", link)
"""


def test_a_kept_cube_that_was_changed_does_not_run(site: Site, machine: Path) -> None:
    assert cube("pull", site.signed, home=machine).returncode == 0
    words = ("run", site.signed, "--task=hi", "--platform=local")
    done = cube(*words, home=machine)
    assert "hello" in done.stdout + done.stderr, done.stderr
    (program,) = (machine / "cache/store/cubes").glob("*/cube/hi.py")
    before = program.stat()
    program.chmod(0o644)
    program.write_text("print('HELLO')\n")
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = cube(*words, home=machine)
    assert done.returncode == 65, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(4))
def test_flipped_bits_of_a_bundle_are_seen(number: int, site: Site, machine: Path) -> None:
    whole = site.home / "flipped.cube"
    if not whole.exists():
        done = cube("bundle", "create", "hello", "-o", str(whole), "--without-tool", home=site.home)
        assert done.returncode == 0, done.stderr
    from mlcube.bundling.verifying import verify
    from mlcube.errors import CubeError

    dice = random.Random(number)
    content = whole.read_bytes()
    changed = machine / "changed.cube"
    for _ in range(60):
        flipped = bytearray(content)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        changed.write_bytes(flipped)
        with pytest.raises(CubeError):
            verify(str(changed))


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("sign", "{signed}", "--key", "lab.key"), 1, "the passphrase does not open `lab.key`"),
        (("sign", "{signed}", "--key", "none.key"), 66, "the key `none.key` cannot be read"),
        (("sign", "{signed}", "--key", "lab.pub"), 1, "`lab.pub` is a public key"),
        (("sign", "./hello", "--key", "lab.key"), 2, "only bundles and what lies in a registry carry signatures"),
        (("sign", "oci://{address}/signed:none", "--key", "lab.key"), 1, "the passphrase does not open"),
        (("verify", "{signed}", "--key", "lab.key"), 1, "`lab.key` is a private key"),
        (("verify", "{signed}", "--key", "none"), 66, "there is no file `none`"),
        (("verify", "{signed}"), 2, "there is no policy at"),
        (("verify", "--key", "lab.pub"), 2, "`--key` verifies a cube, and none is named"),
        (("verify", "oci://{address}/signed:none", "--key", "lab.pub"), 66, "signed:none"),
        (("verify", "./hello", "--key", "lab.pub"), 2, "carries no signatures"),
        (("key", "create", "lab"), 1, "never overwritten"),
        (("publish", "hello", "oci://{address}/x:1", "--sign"), 2, "`--sign` and `--key` belong together"),
        (("publish", "hello", "oci://{address}/x:1", "--sign", "--key", "lab.key"), 1, "the passphrase does not open"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], status: int, told: str, site: Site) -> None:
    given = [word.format(signed=site.signed, address=site.address) for word in words]
    refused(cube(*given, home=site.home, passphrase="another one"), status, told)


def test_without_a_terminal_the_variable_is_named(site: Site) -> None:
    refused(
        cube("key", "create", "asked", home=site.home, passphrase=None), 2, "nobody can be asked for the passphrase"
    )


def test_the_policy_is_shown(machine: Path, site: Site) -> None:
    done = cube("verify", home=machine)
    assert f"rule  line 3: signed by lab: registries {site.address}" in done.stdout, done.stdout + done.stderr
    assert "else  never" in done.stdout
    shown = json.loads(cube("verify", "--json", home=machine).stdout)
    assert shown["rules"] == [{"line": 3, "registries": [site.address], "allow": "signed"}]


def test_a_zoo_that_leads_elsewhere_leads_nowhere(site: Site, machine: Path) -> None:
    """The index of a zoo is nobody's promise: what it names must be signed all the same."""
    done = cube("zoo", "build", site.signed, "-o", "pages", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copytree(site.home / "pages", machine / "zoo")
    (machine / "config/trust.yaml").write_text(
        "keys: {lab: lab.pub}\nrules:\n  - {zoos: [near], names: ['hel*'], allow: signed}\n"
    )
    done = cube("zoo", "add", "near", str(machine / "zoo"), home=machine)
    assert done.returncode == 0, done.stderr
    for words in (("pull", "hello"), ("verify", "hello")):
        done = cube(*words, home=machine)
        assert done.returncode == 0, done.stderr
    index = machine / "zoo/index.json"
    index.write_text(index.read_text().replace(site.digest, site.unsigned))
    refused(cube("pull", "hello", home=machine), 78, f"@{site.unsigned}` is not signed")
    index.write_text(index.read_text().replace("hello", "other"))
    refused(cube("pull", "other", home=machine), 78, "is forbidden by the default")


def test_the_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    status, shown = at_terminal(tmp_path, ("key", "create", "typed"), [PASSPHRASE, PASSPHRASE])
    assert status == 0, shown
    assert shown.count("passphrase for typed.key:") == 1
    assert PASSPHRASE not in shown
    done = cube("key", "show", "--key", "typed.key", home=tmp_path)
    assert done.stdout == (tmp_path / "typed.pub").read_text()
    status, shown = at_terminal(tmp_path, ("key", "create", "second"), [PASSPHRASE, "another"])
    assert status == 2, shown
    assert "the two passphrases differ" in shown
    assert not (tmp_path / "second.key").exists()


def at_terminal(home: Path, words: tuple[str, ...], answers: list[str]) -> tuple[int, str]:
    """`cube` at a terminal of its own, at which each question gets the next answer."""
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("CUBE_KEY_PASSWORD", None)
    argv = [sys.executable, "-c", AT_TERMINAL, json.dumps(answers), sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=home, timeout=60)
    return done.returncode, done.stdout


AT_TERMINAL = """\
import json, os, pty, sys
answers = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = asked = b""
while True:
    try:
        chunk = os.read(terminal, 1024)
    except OSError:
        break
    if not chunk:
        break
    shown, asked = shown + chunk, asked + chunk
    if asked.endswith(b": ") and answers:
        os.write(terminal, answers.pop(0).encode() + b"\\n")
        asked = b""
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_whole_bundle_is_signed_by_a_file_beside_it(site: Site, machine: Path) -> None:
    """Also what no signature of the cube covers, as wheels."""
    words = ("bundle", "create", "hello", "-o", "whole.cube", "--without-tool", "--platform=local")
    done = cube(*words, home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube", machine)
    (machine / "config/trust.yaml").write_text("keys: {lab: lab.pub}\ndefault: signed\n")
    run = ("run", "whole.cube", "--task=hi", "--platform=local")
    refused(cube(*run, home=machine), 78, "is not signed")
    signature = machine / "whole.cube.sig"
    done = cube("sign", "whole.cube", "--key", "other.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube.sig", signature)
    refused(cube(*run, home=machine), 78, "is not signed")
    done = cube("sign", "whole.cube", "--key", "lab.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube.sig", signature)
    done = cube("verify", "./whole.cube", home=machine)
    assert ", with everything in the bundle, is signed by lab" in done.stdout, done.stdout + done.stderr
    done = cube(*run, home=machine)
    assert done.returncode == 0, done.stderr
    for content in (b"", b"[" * 100_000, b"\xff", b"[]", b'[{"payload":"%%","signature":5}]'):
        signature.write_bytes(content)
        refused(cube("verify", "./whole.cube", home=machine), 78, "is not signed")
    words = ("bundle", "create", "hello", "-o", "changed.cube", "--without-tool", "--platform=local", "--with-data")
    (site.home / "hello/extra").write_text("extra")
    done = cube(*words, home=site.home)
    (site.home / "hello/extra").unlink()
    shutil.copy(site.home / "changed.cube", machine / "whole.cube")
    shutil.copy(site.home / "whole.cube.sig", signature)
    refused(cube(*run, home=machine), 78, "is not signed")

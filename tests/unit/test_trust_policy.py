"""The policy: what it admits, and what is said of a file that cannot be followed to the letter."""

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mlcube import oci
from mlcube.errors import CubeError, InvalidFile, MissingInput, Untrusted
from mlcube.obtaining.admitting import subject_of_address, subjects_of_path
from mlcube.source import Document
from mlcube.trust import in_force
from mlcube.trust.keys import PrivateKey
from mlcube.trust.patterns import matches, registry_matches
from mlcube.trust.policy import Subject, admit
from mlcube.trust.policy_file import Policy, parse_policy, read_policy
from mlcube.trust.signing import Signature, sign
from mlcube.trust.spellings import address_names

DIGEST = oci.digest_of(b"a manifest")
LAB = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
CLINIC = PrivateKey(ec.generate_private_key(ec.SECP256R1()))

POLICY = """\
keys:
  lab: lab.pub
  clinic: clinic.pub
rules:
  - registries: [registry.lab.example]
    allow: signed
    keys: [lab]
  - zoos: [clinic]
    names: ["med/*"]
    allow: signed
  - registries: ["open.example/public/**"]
    allow: always
  - kinds: [bundle]
    allow: signed
    keys: [clinic]
  - kinds: [path]
    names: ["/srv/cubes/**"]
    allow: always
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return policy_of(POLICY, tmp_path)


def policy_of(text: str, folder: Path) -> Policy:
    (folder / "lab.pub").write_text(LAB.public.pem)
    (folder / "clinic.pub").write_text(CLINIC.public.pem)
    return parse_policy(Document.from_yaml(text, "trust.yaml"), str(folder / "trust.yaml"))


def oci_subject(repository: str) -> Subject:
    return Subject(kind="oci", name=repository.partition("/")[2], repository=repository, digest=DIGEST)


def signed(*keys: PrivateKey) -> list[Signature]:
    return [sign(key, "registry.lab.example/digits", DIGEST) for key in keys]


def test_the_key_of_the_rule_must_have_signed(policy: Policy) -> None:
    subject = oci_subject("registry.lab.example/digits")
    admission = admit(subject, lambda: signed(CLINIC, LAB), policy=policy)
    assert (admission.signed, admission.key, admission.digest) == (True, "lab", DIGEST)
    with pytest.raises(Untrusted, match=r"signed, but by none of these keys, and the rule at .*:5 asks .* `lab`"):
        admit(subject, lambda: signed(CLINIC), policy=policy)
    with pytest.raises(Untrusted, match=r"is not signed, and the rule at .*trust.yaml:5 asks") as caught:
        admit(subject, lambda: (), policy=policy)
    assert DIGEST in str(caught.value)


def test_signatures_are_only_fetched_where_they_are_asked_for(policy: Policy) -> None:
    def never() -> list[Signature]:
        raise AssertionError

    assert not admit(oci_subject("open.example/public/a/b"), never, policy=policy).signed
    with pytest.raises(Untrusted, match="is forbidden by the default of"):
        admit(oci_subject("open.example/private/b"), never, policy=policy)


def test_a_zoo_is_known_by_its_name_and_what_it_leads_to_by_its_registry(policy: Policy) -> None:
    def found(zoo: str, name: str, repository: str) -> Subject:
        return Subject(kind="zoo", name=name, repository=repository, digest=DIGEST, zoo=zoo)

    assert admit(found("clinic", "med/a", "x.example/y"), lambda: signed(CLINIC), policy=policy).signed
    assert admit(found("any", "a", "registry.lab.example/y"), lambda: signed(LAB), policy=policy).signed
    for subject in (found("clinic", "other", "x.example/y"), found("other", "med/a", "x.example/y")):
        with pytest.raises(Untrusted, match="forbidden"):
            admit(subject, lambda: signed(CLINIC), policy=policy)


def test_a_bundle_does_not_choose_its_rule(policy: Policy) -> None:
    """What it says of its origin is its own word."""
    subject = Subject(kind="bundle", name="/tmp/a.cube", repository="open.example/public/x", digest=DIGEST)
    with pytest.raises(Untrusted, match="not signed"):
        admit(subject, lambda: (), policy=policy)
    assert admit(subject, lambda: signed(CLINIC), policy=policy).key == "clinic"


def test_paths_and_addresses_carry_no_signatures(policy: Policy, tmp_path: Path) -> None:
    assert admit(Subject(kind="path", name="/srv/cubes/a/b"), policy=policy).digest is None
    for subject in (Subject(kind="path", name="/home/me/cube"), Subject(kind="git", name="https://h/r.git")):
        with pytest.raises(Untrusted, match="forbidden"):
            admit(subject, policy=policy)
    everything = policy_of("keys: {lab: lab.pub}\ndefault: signed\n", tmp_path)
    with pytest.raises(Untrusted, match="which a cube of kind `archive` cannot carry"):
        admit(Subject(kind="archive", name="https://h/a.tar"), policy=everything)


def test_without_a_file_everything_may_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not in_force()
    assert admit(Subject(kind="git", name="https://h/r.git")).policy is None
    monkeypatch.setenv("CUBE_TRUST", str(tmp_path / "none.yaml"))
    assert in_force()
    with pytest.raises(MissingInput, match="there is no file"):
        admit(Subject(kind="git", name="https://h/r.git"))


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("what", ["folder", "loop", "dangling", "pipe"])
def test_a_policy_that_is_no_file_is_told_with_what_mends_it(
    what: str, named: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = home / "trust.yaml"
    if what == "folder":
        place.mkdir()
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("trust.yaml" if what == "loop" else "none")
    if named:
        monkeypatch.setenv("CUBE_TRUST", str(place))
    with pytest.raises(MissingInput, match=r"trust.yaml`") as caught:
        read_policy()
    assert ("which CUBE_TRUST names" in str(caught.value.args[0])) is named
    begin = "have it name a file that can be read" if named else "here the policy lies: "
    assert (caught.value.hint or "").startswith(begin)


def test_a_file_that_says_nothing_allows_nothing(home: Path) -> None:
    (home / "trust.yaml").write_text("")
    assert read_policy().default == "never"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUBE_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_keys_are_files_beside_the_policy_or_stand_in_it(tmp_path: Path) -> None:
    inline = "".join(f"    {line}\n" for line in LAB.public.pem.splitlines())
    policy = policy_of(f"keys:\n  lab: |\n{inline}  clinic: ./clinic.pub\n", tmp_path)
    assert {name: key.fingerprint for name, key in policy.keys.items()} == {
        "lab": LAB.public.fingerprint,
        "clinic": CLINIC.public.fingerprint,
    }


def test_a_file_with_two_keys_is_a_mistake_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "both.pub").write_text(LAB.public.pem + CLINIC.public.pem)
    with pytest.raises(InvalidFile) as caught:
        policy_of("keys: {lab: lab.pub, both: both.pub}\ndefault: signed\n", tmp_path)
    assert "trust.yaml:1:28: error: `both.pub` holds several keys, and one is read\n" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ruels: []", ["trust.yaml:1:1: error: unknown key `ruels`", "did you mean `rules`?"]),
        ("rules: {}", ["`rules` must be a list"]),
        ("rules: [{kinds: [path]}]", ["trust.yaml:1:9", "`rules[0]` needs a key `allow`"]),
        ("rules: [{allow: maybe}]", ["trust.yaml:1:17", "must be one of `always`, `never`, `signed`, not `maybe`"]),
        ("rules: [{allow: yes}]", ["not `yes`"]),
        ("rules: [{allow: always, kind: [path]}]", ["unknown key `kind`", "did you mean `kinds`?"]),
        ("rules: [{allow: never, kinds: [paht]}]", ["trust.yaml:1:32", "`kinds[0]` must be one of", "not `paht`"]),
        ("rules: [{allow: never, registries: open.example}]", ["`rules[0].registries` must be a list"]),
        ("rules: [{allow: never, names: []}]", ["`names` is empty, so nothing matches"]),
        ("rules: [{allow: signed}]", ["trust.yaml:1:17", "`signed` needs a key"]),
        ("keys: {a: lab.pub}\nrules: [{allow: signed, keys: [b]}]", ["trust.yaml:2:32", "no key is named `b`"]),
        ("keys: {a: lab.pub}\nrules: [{allow: always, keys: [a]}]", ["`allow: always` asks no key"]),
        ("keys: {a: lab.pub}\nrules: [{allow: signed, kinds: [oci, git]}]", ["kind `git` carries no signature"]),
        ("default: signed", ["`signed` needs a key"]),
        ("default: 5", ["`default` must be"]),
        ("keys: [lab.pub]", ["`keys` must be a mapping"]),
        ("keys: {a: none.pub}", ["trust.yaml:1:11", "there is no file"]),
        ("keys: {a: trust.yaml}", ["trust.yaml:1:11", "is no public key"]),
        ("keys: {a: '-----BEGIN CERTIFICATE-----'}", ["the key `a` is a certificate"]),
        ("keys: {a: x, a: y}", ["`a`"]),
        ("[]", ["the file must be a mapping"]),
        ("a: [" * 5000, ["nested"]),
        ("a: \0", ["trust.yaml:1"]),
        (
            "rules:\n- registries:\n  allow: always",
            ["trust.yaml:2", "`registries` says nothing"],
        ),
        ("rules: [{allow: always, names: ~}]", ["`names` says nothing"]),
        ("rules: [{allow: never, registries: ['oci://r.example']}]", ["matches no registry", "hint: r.example/**"]),
        ("rules: [{allow: never, registries: ['r.example/']}]", ["matches no registry", "hint: r.example/**"]),
        ("rules: [{allow: never, registries: ['r.example/x:1']}]", ["matches no registry", "hint: r.example/x"]),
        ("rules: [{allow: never, names: [~/cubes/**]}]", ["`~/cubes/**` matches no name"]),
        ("rules: [{allow: never, names: [git+https://h/x]}]", ["`git+https://h/x` matches no name"]),
    ],
)
def test_every_mistake_has_its_place(text: str, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "trust.yaml").write_text(text)
    with pytest.raises(InvalidFile) as caught:
        policy_of(text, tmp_path)
    for words in told:
        assert words in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        policy_of("ruels: []\ndefault: maybe\nkeys: 5\n", tmp_path)
    assert len(caught.value.problems) == 3
    assert all(problem.severity == "error" for problem in caught.value.problems)


def test_a_signature_over_another_digest_is_none(policy: Policy) -> None:
    other = sign(LAB, "registry.lab.example/digits", oci.digest_of(b"another"))
    broken = Signature(other.payload, base64.b64encode(b"0").decode())
    with pytest.raises(Untrusted, match="by none of these keys"):
        admit(oci_subject("registry.lab.example/digits"), lambda: (other, broken), policy=policy)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("digits", "digits", True),
        ("digits*", "digits-2", True),
        ("digits*", "digits/evil", False),
        ("med/**", "med/a/b", True),
        ("med/**", "medical/a", False),
        ("a.b", "aXb", False),
        ("?", "/", False),
        ("[ab]", "a", False),
        ("x*", "x\ny", True),
        ("digits", "digits\n", False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    "url",
    [
        "https://h/good/../evil.git",
        "https://h/good/%2e%2e/evil.git",
        "https://h/good/%252E%252e/evil.git",
        "https://h/good/./evil.git",
        "https://h/good\\..\\evil.git",
        "git@h:../evil",
        "file:///srv/good/..",
    ],
)
def test_no_address_climbs(url: str) -> None:
    with pytest.raises(Untrusted, match="no rule can be about it"):
        address_names(url)


def test_hosts_are_the_same_in_small_letters() -> None:
    assert address_names("HTTPS://Git.Example/Group/R.git")[0] == "https://git.example/Group/R.git"
    assert matches("HTTPS://Git.Example/Group/*", "https://git.example/Group/R")
    assert registry_matches("R.example/Lab", "r.EXAMPLE/Lab")
    assert not registry_matches("r.example/Lab", "r.example/lab")


def test_a_host_is_all_of_it_and_nothing_else() -> None:
    assert registry_matches("r.example", "r.example/a/b")
    assert registry_matches("*.example", "r.example/a")
    assert not registry_matches("r.example", "r.example:5000/a")
    assert not registry_matches("r.example", "r.example.evil/a")
    assert not registry_matches("r.example/a", "r.example/ab")


@pytest.mark.parametrize(
    "url",
    [
        *("https://evil.example/lab/x", "https://EVIL.example/lab/x", "https://evil.example:443/lab/x"),
        *("https://evil.example:0443/lab/x", "https://evil.example./lab/x", "https://evil.example/lab/x.git"),
        *("https://evil.example/lab/x/", "https://evil.example//lab//x", "https://evil.example/%6cab/x"),
        *("git@evil.example:lab/x", "git@EVIL.example:lab/x.git", "ssh://git@evil.example/lab/x"),
        *("ssh://git@evil.example:22/lab/x.git", "ssh://other@evil.example/lab/x", "ssh://evil.example./lab/x"),
    ],
)
def test_another_spelling_is_the_same_source(url: str, tmp_path: Path) -> None:
    names = "['https://evil.example/lab/x', 'ssh://evil.example/lab/x']"
    text = f"rules: [{{names: {names}, allow: never}}]\ndefault: always\n"
    with pytest.raises(Untrusted, match="is forbidden by the rule at"):
        admit(subject_of_address("git", url), policy=policy_of(text, tmp_path))
    allowed = policy_of(text.replace("never", "then").replace("always", "never").replace("then", "always"), tmp_path)
    assert admit(subject_of_address("git", url), policy=allowed).digest is None


@pytest.mark.parametrize("pattern", ["git@Evil.example:lab/*", "ssh://git@evil.example/lab/*", "ssh://evil.example/**"])
def test_ssh_has_two_ways_to_be_written(pattern: str, tmp_path: Path) -> None:
    policy = policy_of(f"rules: [{{names: ['{pattern}'], allow: never}}]\ndefault: always\n", tmp_path)
    for url in ("git@evil.example:lab/x", "ssh://git@evil.example/lab/x.git"):
        with pytest.raises(Untrusted, match="is forbidden by the rule at"):
            admit(subject_of_address("git", url), policy=policy)


@pytest.mark.parametrize(
    "url",
    [
        *("https://evil.org?x.good.example/lab/r.git", "https://evil.org\\.good.example/r.git"),
        *("https://\u24d4vil.example/r.git", "https://evil.org%2f.good.example/r.git", "https://h/lab%2Fx.git"),
        *("https://h/x%00.git", "https://h/x%ff.git", "git@h:%6cab/x", "https://a@b@h/x.git", "nothing"),
        "https://h.example:443:/x.git",
    ],
)
def test_an_address_that_hides_where_it_leads_is_refused(url: str) -> None:
    """`https://*.good.example/**` would match the first, which goes to evil.org."""
    with pytest.raises(Untrusted, match="no rule can be about it"):
        address_names(url)


def test_a_repository_of_this_machine_has_the_name_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    names = address_names(f"file://{tmp_path}/link")
    assert {f"file://{tmp_path}/real", f"{tmp_path}/real", f"{tmp_path}/real.git"} <= set(names)
    assert address_names(f"file://{tmp_path}/%6cink".replace("%6c", "l")) == names


@pytest.mark.parametrize(
    ("pattern", "repository"),
    [
        *(("r.example", "r.example:443/x"), ("r.example:443", "r.example/x"), ("r.example", "r.example:0443/x")),
        *(("r.example.", "r.example/x"), ("R.example/x", "r.example:443/x"), ("*.example", "r.example:443/x")),
        *(("docker.io", "index.docker.io/x"), ("index.docker.io/x", "docker.io/library/x")),
        *(("docker.io/library/x", "docker.io/x"), ("docker.io/library/**", "registry-1.docker.io/x")),
        *(("localhost", "localhost:80/x"), ("[::1]:5000", "[::1]:5000/x")),
    ],
)
def test_a_registry_has_one_spelling(pattern: str, repository: str) -> None:
    assert registry_matches(pattern, repository)


def test_a_file_is_no_way_around_its_folder(tmp_path: Path) -> None:
    cubes = tmp_path / "cubes"
    cubes.mkdir()
    (cubes / "mlcube.yaml").touch()
    for written in (f"{cubes}", f"{cubes}/**", f"{cubes}/mlcube.yaml"):
        policy = policy_of(
            f"rules: [{{kinds: [path], names: ['{written}'], allow: never}}]\ndefault: always\n", tmp_path
        )
        for named in (f"{cubes}", f"{cubes}/", f"{cubes}/mlcube.yaml", f"{cubes}/../cubes/mlcube.yaml"):
            with pytest.raises(Untrusted, match="is forbidden by the rule at"):
                [admit(each, policy=policy) for each in subjects_of_path(named)]


def test_a_link_to_an_allowed_file_does_not_bring_its_own_neighbours(tmp_path: Path) -> None:
    """The code of a cube lies beside the link, and not beside the file to which it leads."""
    for name in ("allowed", "evil"):
        (tmp_path / name).mkdir()
    (tmp_path / "allowed/mlcube.yaml").touch()
    (tmp_path / "evil/mlcube.yaml").symlink_to("../allowed/mlcube.yaml")
    policy = policy_of(f"rules: [{{kinds: [path], names: ['{tmp_path}/allowed/**'], allow: always}}]", tmp_path)
    assert [admit(each, policy=policy) for each in subjects_of_path(f"{tmp_path}/allowed/mlcube.yaml")]
    with pytest.raises(Untrusted, match=r"evil/mlcube.yaml` is forbidden"):
        [admit(each, policy=policy) for each in subjects_of_path(f"{tmp_path}/evil/mlcube.yaml")]


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(Untrusted, match="no rule can be about"):
        subjects_of_path("a\0b")


def test_a_policy_that_cannot_be_looked_at_is_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not to know whether there is one is no reason to allow everything."""
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("CUBE_CONFIG_DIR", str(tmp_path / "loop"))
    assert in_force()
    with pytest.raises(CubeError):
        admit(Subject(kind="git", name="https://h/r.git"))
    monkeypatch.setenv("CUBE_CONFIG_DIR", str(tmp_path / "none"))
    assert not in_force()
    (tmp_path / "trust.yaml").mkdir()
    monkeypatch.setenv("CUBE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(CubeError):
        admit(Subject(kind="git", name="https://h/r.git"))

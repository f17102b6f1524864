"""What is collected here: nothing where the package is not installed, as in the tests of the project around it."""

from importlib.metadata import PackageNotFoundError, version

collect_ignore_glob: list[str] = []
try:
    version("mlcube-nice")
except PackageNotFoundError:
    collect_ignore_glob = ["*"]

"""`python -m mlcube` is `cube`."""

from mlcube.cli import main

main()

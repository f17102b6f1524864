"""The tasks of the cube: the first argument is the task's name, the others are its parameters."""

import argparse
from pathlib import Path


def hello(name: str, greeting: str, message: str) -> None:
    """Greet whoever the file `name` names, and write the greeting to the file `message`."""
    text = f"{greeting}, {Path(name).read_text(encoding='utf-8').strip()}!"
    Path(message).write_text(f"{text}\n", encoding="utf-8")
    print(text)


def main() -> None:
    """Read the command line and call the task."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("hello")
    task.add_argument("--name", required=True)
    task.add_argument("--greeting", required=True)
    task.add_argument("--message", required=True)
    arguments = vars(parser.parse_args())
    {"hello": hello}[arguments.pop("task")](**arguments)


if __name__ == "__main__":
    main()

"""Greets whoever is named in a file, and says goodbye, in a chat that is kept in another file."""

import argparse
from datetime import datetime, timezone
from pathlib import Path

LINES = {
    "hello": "Hello {name}! It is {time}, and this cube runs.",
    "bye": "Goodbye {name}, it was {time} when this cube stopped.",
}


def main() -> None:
    """Add a line to the chat, and show it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=LINES)
    parser.add_argument("--name", type=Path, required=True)
    parser.add_argument("--chat", type=Path, required=True)
    arguments = parser.parse_args()

    name = arguments.name.read_text(encoding="utf-8").strip()
    time = datetime.now(timezone.utc).strftime("%H:%M UTC")
    line = LINES[arguments.task].format(name=name, time=time)
    arguments.chat.parent.mkdir(parents=True, exist_ok=True)
    with arguments.chat.open("a", encoding="utf-8") as chat:
        chat.write(line + "\n")
    print(line)


if __name__ == "__main__":
    main()

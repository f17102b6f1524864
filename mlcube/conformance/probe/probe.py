"""A task that tells what it sees, then does what it is told."""

import json
import os
import sys

out = os.environ["CUBE_OUTPUT_OUT"]
seen = {
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "user": os.getuid(),
    "group": os.getgid(),
    "directory": os.getcwd(),
}
with open(os.path.join(out, "seen.json"), "w") as file:
    json.dump(seen, file)
exec(os.environ.get("PROBE_DO", ""))

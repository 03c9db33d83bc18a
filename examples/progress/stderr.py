"""Runs `assent run` as a process, reads its progress as JSON lines from its standard error, and
adds it up by agent and task.

python stderr.py <message> [options of assent run]
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter


def main(message, *options):
    command = ["assent", "run", "--progress", "json", *options, "--", message]
    counts = Counter()
    with (
        tempfile.TemporaryFile("w+") as answer,
        subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True) as process,
    ):
        for line in process.stderr:
            if not line.startswith("{"):
                print(line, end="", file=sys.stderr)
                continue
            step = json.loads(line)
            counts[step["agent"], step["task"]] += 1
            print(f"{step['timestamp']} {step['agent']} · {step['task']}", flush=True)
        code = process.wait()
        answer.seek(0)
        print(answer.read(), end="")
    for (agent, task), count in counts.items():
        print(f"{agent} · {task}: {count}")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Follows the progress of a run over Server-Sent Events, and adds it up by agent and task.

python sse.py <the URL of the server> <the id of the run> [key]
"""

import json
import sys
import time
from collections import Counter

import httpx


def progress_messages(server, execution_id, api_key=None):
    """Yields the messages up to the last one. A connection that is lost is taken up again."""
    url = f"{server}/progress/{execution_id}"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    while True:
        try:
            with httpx.stream("GET", url, headers=headers, timeout=60) as response:
                if response.status_code == 204:
                    return
                if response.status_code != 503:  # The server stops, or its storage is away.
                    response.raise_for_status()
                for line in response.iter_lines():
                    if line.startswith("id: "):
                        headers["Last-Event-ID"] = line[4:]
                    elif line == "data: [DONE]":
                        return
                    elif line.startswith("data: "):
                        yield json.loads(line[6:])
        except httpx.TransportError as error:
            print(f"Lost the connection: {error}", file=sys.stderr)
        time.sleep(1)


def main(server, execution_id, api_key=None):
    counts = Counter()
    for message in progress_messages(server, execution_id, api_key):
        if message["type"] == "progress":
            counts[message["agent"], message["task"]] += 1
        print(json.dumps(message))
    for (agent, task), count in counts.items():
        print(f"{agent} · {task}: {count}")


if __name__ == "__main__":
    main(*sys.argv[1:])

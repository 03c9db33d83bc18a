"""Follows the progress of a run over a WebSocket, and adds it up by agent and task.

python websocket.py <the URL of the server> <the id of the run> [key]
"""

import asyncio
import json
import sys
from collections import Counter

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def progress_messages(server, execution_id, api_key=None):
    """The messages up to the last one. They have no ids, so a connection that was lost begins with
    the first message again."""
    url = f"{server.replace('http', 'ws', 1)}/progress/{execution_id}/ws"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    while True:
        messages = []
        try:
            async with connect(url, additional_headers=headers) as websocket:
                async for text in websocket:
                    messages.append(json.loads(text))
                return messages
        except (ConnectionClosedError, OSError) as error:
            if isinstance(error, ConnectionClosedError) and error.rcvd and error.rcvd.code == 1008:
                raise  # What is asked for is not there any more.
            print(f"Lost the connection: {error}", file=sys.stderr)
        await asyncio.sleep(1)


async def main(server, execution_id, api_key=None):
    messages = await progress_messages(server, execution_id, api_key)
    steps = [message for message in messages if message["type"] == "progress"]
    counts = Counter((step["agent"], step["task"]) for step in steps)
    for message in messages:
        print(json.dumps(message))
    for (agent, task), count in counts.items():
        print(f"{agent} · {task}: {count}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

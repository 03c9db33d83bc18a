"""Makes a task, executes it with streaming, and prints its events.

    python examples/tasks/create.py <agent> [http://localhost:8000]

With ASSENT_API_KEY its value is sent as the key. The agent needs the model "gpt-4" in the file that
ASSENT_CONFIG names:

    [tasks.<agent>.models]
    "gpt-4" = "openai:gpt-4"
"""

import os
import sys

import requests

agent_id, server = (*sys.argv[1:], "http://localhost:8000")[:2]
key = os.environ.get("ASSENT_API_KEY")
headers = {"Authorization": f"Bearer {key}"} if key else {}

# Create task with streaming enabled
task_data = {
    "description": "Explain quantum computing",
    "user_id": "user123",
    "task_parameters": {"enable_streaming": True, "model": "gpt-4"},
}

response = requests.post(
    f"{server}/api/v1/agents/{agent_id}/tasks", json=task_data, headers=headers
)
task_id = response.json()["id"]

# Execute with streaming
execute_data = {
    "query": "Explain quantum computing in simple terms",
    "enable_streaming": True,
}

requests.post(
    f"{server}/api/v1/agents/{agent_id}/tasks/{task_id}/execute",
    json=execute_data,
    headers=headers,
)

sse_url = f"{server}/api/v1/agents/{agent_id}/tasks/{task_id}/events/stream"

with requests.get(sse_url, stream=True, headers=headers) as response:
    for line in response.iter_lines():
        if line:
            print(line.decode("utf-8"))

// Listens to a task's events as a page does, by `onmessage` and `addEventListener` side by side.
//
//     node --experimental-eventsource examples/tasks/page.mjs <agent> <task> [http://localhost:8000]
//
// Browsers have EventSource without that flag. The server ends the stream behind the task's last
// event, and answers whoever returns then with 204, after which an EventSource asks no more.

const [agent_id, task_id, server = 'http://localhost:8000'] = process.argv.slice(2);

const eventSource = new EventSource(
    `${server}/api/v1/agents/${agent_id}/tasks/${task_id}/events/stream`,
);

eventSource.onmessage = (event) => {
    const data = JSON.parse(event.data);
    // In a browser `event.type` is "message" for every event without a name: `data.event` has it.
    console.log('Received event:', event.type, data);
};

// Listen for specific events
eventSource.addEventListener('WorkflowLLMCallStarted', (event) => {
    const data = JSON.parse(event.data);
    console.log('LLM call started:', data.model, data.estimated_cost);
});

// A browser's page stays open. Node would end while an EventSource waits before it asks again.
const staying = setInterval(() => {
    if (eventSource.readyState === EventSource.CLOSED) {
        clearInterval(staying);
    }
}, 100);

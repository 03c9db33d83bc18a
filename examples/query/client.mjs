// Asks a query over a WebSocket, and logs what the agent does until it has answered. As it is for a
// page, beside a server that `assent serve` has started:
//
//     <script type="module">
//       import { example } from "./client.mjs";
//       example();
//     </script>
//
// Node 22 runs it too, and Node 20 with --experimental-websocket. Neither a page nor Node can send a
// key this way: see docs/how-to/coming-from.md.

export class LegalAgentWebSocket {
  constructor(url = "ws://localhost:8000/ws/query") {
    this.url = url;
    this.ws = null;
    this.connectionId = null;
    this.eventHandlers = new Map();
  }

  connect() {
    return new Promise((resolve, reject) => {
      this.ws = new WebSocket(this.url);

      this.ws.onopen = () => {
        console.log("Connected to legal agent streaming service");
      };

      this.ws.onmessage = (event) => {
        const data = JSON.parse(event.data);
        this.handleEvent(data);
      };

      this.ws.onerror = (error) => {
        console.error("WebSocket error:", error);
        reject(error);
      };

      this.ws.onclose = () => {
        console.log("Disconnected from legal agent streaming service");
      };

      // Wait for connection confirmation
      this.on("connection_established", (data) => {
        this.connectionId = data.connection_id;
        resolve(data);
      });
    });
  }

  sendQuery(query, caseId = null) {
    const message = {
      query: query,
      case_id: caseId,
      stream_thinking: true,
    };

    this.ws.send(JSON.stringify(message));
  }

  on(eventType, handler) {
    if (!this.eventHandlers.has(eventType)) {
      this.eventHandlers.set(eventType, []);
    }
    this.eventHandlers.get(eventType).push(handler);
  }

  handleEvent(event) {
    const handlers = this.eventHandlers.get(event.type) || [];
    handlers.forEach((handler) => handler(event));

    // Default event logging
    console.log(`[${event.type}]`, event);
  }

  disconnect() {
    if (this.ws) {
      this.ws.close();
    }
  }
}

// Usage example
export async function example() {
  const client = new LegalAgentWebSocket();

  try {
    await client.connect();

    // Set up event handlers
    client.on("agent_start", (event) => {
      console.log(`Agent ${event.agent_name} started: ${event.task}`);
    });

    client.on("tool_start", (event) => {
      console.log(`Tool ${event.tool_name} started`);
    });

    client.on("llm_start", (event) => {
      console.log("LLM is thinking...");
    });

    client.on("agent_execution_complete", (event) => {
      console.log("Final answer:", event.output_data.answer);
      console.log("Citations:", event.output_data.citations);
    });

    // Send a query
    client.sendQuery("What was the defendant's response?", 1);
  } catch (error) {
    console.error("Error:", error);
  }
}

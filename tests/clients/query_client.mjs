// The document's client in JavaScript, as its example uses it: asks the queries of the command line
// one after the other, and ends. It logs what the class and the example log.
//
//     node --experimental-websocket query_client.mjs <client.mjs> <url> <query>…

const [module, url, ...queries] = process.argv.slice(2);
const { LegalAgentWebSocket } = await import(module);

const client = new LegalAgentWebSocket(url);
const established = await client.connect();
console.log("Id:", established.connection_id === client.connectionId);

client.on("agent_start", (event) => {
  console.log(`Agent ${event.agent_name} started: ${event.task}`);
});
client.on("tool_start", (event) => {
  console.log(`Tool ${event.tool_name} started`);
});
client.on("agent_execution_complete", (event) => {
  console.log("Final answer:", event.output_data.answer);
  console.log("Sources:", event.output_data.citations.map((each) => each.source).join());
});

for (const query of queries) {
  await new Promise((done) => {
    client.on("agent_execution_complete", done);
    client.on("agent_execution_error", done);
    client.sendQuery(query, 1);
  });
}
client.disconnect();

/** What nodes of a graph are called on the page, and where they lead. */

import { messages } from "../../messages/en.ts";
import { type Drawn, lastOf } from "./graph.ts";

const words = messages.agents;

/** What is read of the last step of a place. */
export function nameOf(id: string): string {
  const last = lastOf(id);
  return last === "__start__" ? words.kinds.start : last === "__end__" ? words.kinds.end : last;
}

/** The sentence about where a node leads, null of one that leads nowhere. */
export function leadsTo(graph: Drawn, id: string): string | null {
  const next = graph.edges.filter((edge) => edge.source === id);
  if (next.length === 0) return null;
  return words.leadsTo(next.map((edge) => (edge.isConditional ? words.perhaps(nameOf(edge.target), edge.label) : nameOf(edge.target))));
}

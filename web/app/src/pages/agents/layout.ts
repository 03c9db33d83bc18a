/** Where the nodes of a graph stand. */

import dagre from "@dagrejs/dagre";
import type { Drawn, DrawnNode } from "./graph.ts";

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const CHARACTER = 7.5;
const HEIGHT = 36;
const DOT = 28;

function sizeOf(node: DrawnNode): { width: number; height: number } {
  if (node.kind === "start" || node.kind === "end") return { width: 64, height: DOT };
  const icon = node.kind === "node" ? 0 : 28;
  return { width: Math.min(260, Math.max(80, node.name.length * CHARACTER + 32 + icon)), height: HEIGHT };
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Layout {
  /** Of nodes and of opened subgraphs, from the upper left corner. */
  readonly boxes: ReadonlyMap<string, Box>;
  /** Where edges bend, by their ids: they go around the nodes in between. */
  readonly ways: ReadonlyMap<string, readonly Point[]>;
}

const LOOP = 24;

/** From the right side of a box and back to it. */
function loopAt({ x, y, width, height }: Box): Point[] {
  const right = x + width;
  const [upper, lower] = [y + height * 0.25, y + height * 0.75];
  return [
    { x: right, y: upper },
    { x: right + LOOP, y: upper },
    { x: right + LOOP, y: lower },
    { x: right, y: lower },
  ];
}

/** Lays out the graph from above to below. */
export function layoutOf(graph: Drawn): Layout {
  const plan = new dagre.graphlib.Graph({ compound: true });
  plan.setGraph({ rankdir: "TB", nodesep: 28, ranksep: 44, marginx: 8, marginy: 8 });
  plan.setDefaultEdgeLabel(() => ({}));
  for (const group of graph.groups) plan.setNode(group, {});
  for (const node of graph.nodes) plan.setNode(node.id, sizeOf(node));
  for (const group of graph.groups) {
    const parent = graph.groups.findLast((each) => group.startsWith(`${each}:`));
    if (parent !== undefined) plan.setParent(group, parent);
  }
  for (const node of graph.nodes) if (node.group !== null) plan.setParent(node.id, node.group);
  for (const { source, target } of graph.edges) if (source !== target) plan.setEdge(source, target);
  dagre.layout(plan);
  const boxes = new Map<string, Box>();
  for (const id of plan.nodes()) {
    const { x, y, width, height } = plan.node(id);
    boxes.set(id, { x: x - width / 2, y: y - height / 2, width, height });
  }
  const ways = new Map<string, readonly Point[]>();
  for (const { id, source, target } of graph.edges) {
    const box = boxes.get(source);
    if (source === target && box) ways.set(id, loopAt(box));
    else ways.set(id, plan.edge(source, target).points ?? []);
  }
  return { boxes, ways };
}

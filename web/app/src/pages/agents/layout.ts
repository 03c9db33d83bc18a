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
  /** The middles of what is written at edges, by their ids. */
  readonly labels: ReadonlyMap<string, Point>;
  readonly width: number;
  readonly height: number;
}

/** Around the whole graph, and above an opened subgraph for its button. */
const MARGIN = 24;
const HEAD = 14;

const LETTER = 6.5;
const LINE = 18;

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
  plan.setGraph({ rankdir: "TB", nodesep: 28, ranksep: 44, marginx: MARGIN, marginy: MARGIN });
  plan.setDefaultEdgeLabel(() => ({}));
  for (const group of graph.groups) plan.setNode(group, {});
  for (const node of graph.nodes) plan.setNode(node.id, sizeOf(node));
  for (const group of graph.groups) {
    const parent = graph.groups.findLast((each) => group.startsWith(`${each}:`));
    if (parent !== undefined) plan.setParent(group, parent);
  }
  for (const node of graph.nodes) if (node.group !== null) plan.setParent(node.id, node.group);
  for (const { source, target, label } of graph.edges) {
    const written = label === "" ? {} : { width: label.length * LETTER, height: LINE, labelpos: "c" };
    if (source !== target) plan.setEdge(source, target, written);
  }
  dagre.layout(plan);
  const boxes = new Map<string, Box>();
  for (const id of plan.nodes()) {
    const { x, y, width, height } = plan.node(id);
    const head = graph.groups.includes(id) ? HEAD : 0;
    boxes.set(id, { x: x - width / 2, y: y - height / 2 - head, width, height: height + head });
  }
  const ways = new Map<string, readonly Point[]>();
  const labels = new Map<string, Point>();
  for (const { id, source, target, label } of graph.edges) {
    const box = boxes.get(source);
    if (source === target && box) {
      ways.set(id, loopAt(box));
      if (label !== "") labels.set(id, { x: box.x + box.width + LOOP + (label.length * LETTER) / 2, y: box.y + box.height / 2 });
    } else {
      const { points, x, y } = plan.edge(source, target);
      ways.set(id, points ?? []);
      if (label !== "" && x !== undefined && y !== undefined) labels.set(id, { x, y });
    }
  }
  const right = [...boxes.values()].map((box) => box.x + box.width);
  const bends = [...ways.values()].flat().map((point) => point.x);
  const written = graph.edges.map(({ id, label }) => (labels.get(id)?.x ?? 0) + (label.length * LETTER) / 2);
  const bottom = [...boxes.values()].map((box) => box.y + box.height);
  return { boxes, ways, labels, width: Math.max(...right, ...bends, ...written) + MARGIN, height: Math.max(...bottom) + MARGIN };
}

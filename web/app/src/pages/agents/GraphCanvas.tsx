import {
  BaseEdge,
  type Edge,
  type EdgeProps,
  Handle,
  MarkerType,
  type Node,
  type NodeProps,
  Panel,
  Position,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
} from "@xyflow/react";
import "@xyflow/react/dist/base.css";
import { createContext, useContext, useEffect, useMemo } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { ForkIcon, PersonIcon } from "../../parts/icons.tsx";
import styles from "./GraphCanvas.module.css";
import { type Drawn, type DrawnNode, lastOf, shownAs } from "./graph.ts";
import { type Layout, layoutOf, type Point } from "./layout.ts";

const words = messages.agents;

export type Lit = "waiting" | "active";

export interface GraphCanvasProps {
  graph: Drawn;
  opened: ReadonlySet<string>;
  /** Places that are at work, or wait for a person. */
  lit: ReadonlyMap<string, Lit>;
  onToggle: (group: string) => void;
}

type StepNode = Node<{ step: DrawnNode; lit: Lit | undefined }, "step">;
type GroupNode = Node<{ group: string }, "frame">;

const Toggling = createContext<(group: string) => void>(() => undefined);

function Step({ data }: NodeProps<StepNode>) {
  const { step, lit } = data;
  const toggle = useContext(Toggling);
  const isEnd = step.kind === "start" || step.kind === "end";
  const name = step.kind === "start" ? words.kinds.start : step.kind === "end" ? words.kinds.end : step.name;
  const label = lit ? `${name}: ${words.lit[lit]}` : name;
  return (
    <div className={cx(styles.step, styles[`is-${step.kind}`], lit && styles[lit])}>
      <Handle type="target" position={Position.Top} className={styles.handle} isConnectable={false} />
      {step.kind === "approval" && <PersonIcon />}
      {step.kind === "subgraph" ? (
        <button type="button" className={styles.open} aria-label={words.open(label)} title={words.open(name)} onClick={() => toggle(step.id)}>
          <ForkIcon />
          {name}
        </button>
      ) : (
        <span title={isEnd ? undefined : words.kinds[step.kind]}>{name}</span>
      )}
      {lit && <span className="sr-only">{words.lit[lit]}</span>}
      <Handle type="source" position={Position.Bottom} className={styles.handle} isConnectable={false} />
    </div>
  );
}

function Frame({ data }: NodeProps<GroupNode>) {
  const toggle = useContext(Toggling);
  return (
    <div className={styles.frame}>
      <button type="button" className={styles.fold} onClick={() => toggle(data.group)}>
        {words.fold(lastOf(data.group))}
      </button>
    </div>
  );
}

type RoutedEdge = Edge<{ way: readonly Point[] }, "routed">;

/** A line through these points that turns softly at each of them. */
function pathOf(points: readonly Point[]): string {
  const [first, ...others] = points;
  if (first === undefined) return "";
  let path = `M${first.x} ${first.y}`;
  for (const [place, point] of others.entries()) {
    const next = others[place + 1];
    if (next === undefined) path += `L${point.x} ${point.y}`;
    else path += `Q${point.x} ${point.y} ${(point.x + next.x) / 2} ${(point.y + next.y) / 2}`;
  }
  return path;
}

function Routed({ id, data, label, markerEnd }: EdgeProps<RoutedEdge>) {
  const way = data?.way ?? [];
  const middle = way[Math.floor(way.length / 2)];
  return <BaseEdge id={id} path={pathOf(way)} markerEnd={markerEnd} label={label} labelX={middle?.x} labelY={middle?.y} />;
}

const TYPES = { step: Step, frame: Frame };
const EDGES = { routed: Routed };

/** Room around the graph in which it can be moved, so that it is never lost: pixels. */
const ROOM = 120;

export default function GraphCanvas(props: GraphCanvasProps) {
  return (
    <ReactFlowProvider>
      <Canvas {...props} />
    </ReactFlowProvider>
  );
}

function Canvas({ graph, opened, lit, onToggle }: GraphCanvasProps) {
  const flow = useReactFlow();
  const { boxes, ways } = useMemo(() => layoutOf(graph), [graph]);
  const shownLit = useMemo(() => {
    const shown = new Map<string, Lit>();
    for (const [place, how] of lit) shown.set(shownAs(place, opened), how);
    return shown;
  }, [lit, opened]);
  const nodes = useMemo(() => nodesOf(graph, boxes, shownLit), [graph, boxes, shownLit]);
  const edges = useMemo(() => graph.edges.map((edge) => edgeOf(edge, ways)), [graph, ways]);
  const right = Math.max(...[...boxes.values()].map((box) => box.x + box.width));
  const bottom = Math.max(...[...boxes.values()].map((box) => box.y + box.height));
  useEffect(() => {
    // The new nodes are measured in the next frame.
    const frame = requestAnimationFrame(() => void flow.fitView({ padding: 0.1, maxZoom: 1.25 }));
    return () => cancelAnimationFrame(frame);
  }, [flow, graph]);
  return (
    <Toggling.Provider value={onToggle}>
      <div className={styles.canvas}>
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={TYPES}
          edgeTypes={EDGES}
          fitView
          fitViewOptions={{ padding: 0.1, maxZoom: 1.25 }}
          minZoom={0.2}
          maxZoom={2}
          translateExtent={[
            [-ROOM, -ROOM],
            [right + ROOM, bottom + ROOM],
          ]}
          nodesDraggable={false}
          nodesConnectable={false}
          nodesFocusable={false}
          edgesFocusable={false}
          elementsSelectable={false}
          zoomOnScroll={false}
          preventScrolling={false}
          panOnScroll={false}
          proOptions={{ hideAttribution: true }}
          aria-label={words.graph}
        >
          <Panel position="top-right" className={styles.controls}>
            <Button small aria-label={words.zoomIn} title={words.zoomIn} onClick={() => void flow.zoomIn()}>
              +
            </Button>
            <Button small aria-label={words.zoomOut} title={words.zoomOut} onClick={() => void flow.zoomOut()}>
              −
            </Button>
            <Button small onClick={() => void flow.fitView({ padding: 0.1 })}>
              {words.fit}
            </Button>
          </Panel>
        </ReactFlow>
      </div>
    </Toggling.Provider>
  );
}

function nodesOf(graph: Drawn, boxes: Layout["boxes"], lit: ReadonlyMap<string, Lit>): Node[] {
  const found: Node[] = [];
  for (const group of graph.groups) {
    const box = boxes.get(group);
    if (box === undefined) continue;
    const { x, y, width, height } = box;
    const frame: GroupNode = { id: group, type: "frame", position: { x, y: y - 14 }, width, height: height + 14, data: { group }, zIndex: -1 };
    found.push(frame);
  }
  for (const step of graph.nodes) {
    const box = boxes.get(step.id);
    if (box === undefined) continue;
    const { x, y, width, height } = box;
    const node: StepNode = { id: step.id, type: "step", position: { x, y }, width, height, data: { step, lit: lit.get(step.id) } };
    found.push(node);
  }
  return found;
}

function edgeOf({ id, source, target, isConditional, label }: Drawn["edges"][number], ways: Layout["ways"]): Edge {
  return {
    id,
    type: "routed",
    data: { way: ways.get(id) ?? [] },
    source,
    target,
    label: label || undefined,
    className: cx(styles.edge, isConditional && styles.conditional),
    markerEnd: { type: MarkerType.ArrowClosed, width: 16, height: 16, color: "var(--ink-faint)" },
  };
}

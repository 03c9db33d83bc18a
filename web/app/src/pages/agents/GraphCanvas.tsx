/** The picture of a graph: nodes that the keyboard reaches, over lines, on a sheet that scrolls. */

import { type KeyboardEvent, memo, type PointerEvent, type ReactNode, useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { ForkIcon, PersonIcon } from "../../parts/icons.tsx";
import styles from "./GraphCanvas.module.css";
import { type Drawn, type DrawnNode, lastOf, shownAs } from "./graph.ts";
import { type Box, type Layout, layoutOf, type Point } from "./layout.ts";
import { leadsTo, nameOf } from "./naming.ts";
import { useZoom } from "./zoom.ts";

const words = messages.agents;

export type Lit = "waiting" | "active";

export interface GraphCanvasProps {
  graph: Drawn;
  opened: ReadonlySet<string>;
  /** Places that are at work, or wait for a person. */
  lit: ReadonlyMap<string, Lit>;
  onToggle: (group: string) => void;
}

/** The factor by which a button zooms. */
const STEP = 1.25;

export default function GraphCanvas({ graph, opened, lit, onToggle }: GraphCanvasProps) {
  const layout = useMemo(() => layoutOf(graph), [graph]);
  const shownLit = useMemo(() => {
    const shown = new Map<string, Lit>();
    for (const [place, how] of lit) shown.set(shownAs(place, opened), how);
    return shown;
  }, [lit, opened]);
  const { width, height } = layout;
  const { view, sheet, scale, zoomBy, fit } = useZoom(width, height);

  // What is opened or folded stands elsewhere: the focus goes on where it can be taken back.
  const toggled = useRef<string | null>(null);
  const toggle = useRef(onToggle);
  useEffect(() => {
    toggle.current = onToggle;
  });
  const onOpenOrFold = useCallback((group: string) => {
    toggled.current = group;
    toggle.current(group);
  }, []);
  useLayoutEffect(() => {
    if (toggled.current === null) return;
    sheet.current?.querySelector<HTMLElement>(`[data-toggles="${CSS.escape(toggled.current)}"]`)?.focus();
    toggled.current = null;
  }, [graph, sheet]);

  return (
    <div className={styles.canvas}>
      <div className={styles.controls}>
        <Button small aria-label={words.zoomIn} title={words.zoomIn} onClick={() => zoomBy(STEP)}>
          +
        </Button>
        <Button small aria-label={words.zoomOut} title={words.zoomOut} onClick={() => zoomBy(1 / STEP)}>
          −
        </Button>
        <Button small onClick={fit}>
          {words.fit}
        </Button>
      </div>
      <div ref={view} className={styles.view} onPointerDown={drag}>
        <div ref={sheet} className={styles.sheet} style={{ width: width * scale, height: height * scale }}>
          <div className={styles.drawing} style={{ width, height, transform: `scale(${scale})` }}>
            <Drawing graph={graph} layout={layout} lit={shownLit} onToggle={onOpenOrFold} />
          </div>
        </div>
      </div>
    </div>
  );
}

/** Moves the sheet with a mouse or a pen. Fingers scroll it by themselves. */
function drag(event: PointerEvent<HTMLElement>) {
  const view = event.currentTarget;
  const isOnButton = event.target instanceof Element && event.target.closest("button") !== null;
  if (event.pointerType === "touch" || event.button !== 0 || isOnButton) return;
  const { clientX, clientY } = event;
  const { scrollLeft, scrollTop } = view;
  const stop = new AbortController();
  const { signal } = stop;
  const move = (moved: globalThis.PointerEvent) => view.scrollTo(scrollLeft + clientX - moved.clientX, scrollTop + clientY - moved.clientY);
  view.setPointerCapture(event.pointerId);
  view.addEventListener("pointermove", move, { signal });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, () => stop.abort(), { signal });
}

interface DrawingProps {
  graph: Drawn;
  layout: Layout;
  lit: ReadonlyMap<string, Lit>;
  onToggle: (group: string) => void;
}

/** It is drawn anew only with another graph or other lights, and not with each zoom. */
const Drawing = memo(function Drawing({ graph, layout, lit, onToggle }: DrawingProps) {
  const [chosen, setChosen] = useState<string | null>(null);
  const [litPlace] = lit.keys();
  // One node is reached by Tab, and the others from it.
  const current = graph.nodes.find((node) => node.id === chosen)?.id ?? litPlace ?? graph.nodes[0]?.id;

  const onKeyDown = (event: KeyboardEvent<HTMLElement>) => {
    const isNode = event.target instanceof HTMLElement && event.target.dataset.node !== undefined;
    if (!isNode || current === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = nextOf(event.key, current, graph.nodes, layout.boxes);
    if (next === undefined) return;
    event.preventDefault();
    event.currentTarget.querySelector<HTMLElement>(`[data-node="${CSS.escape(next)}"]`)?.focus();
  };
  return (
    <>
      {graph.groups.map((group) => (
        <Standing key={group} box={layout.boxes.get(group)}>
          <div className={styles.frame}>
            <button type="button" className={styles.fold} data-toggles={group} onClick={() => onToggle(group)}>
              {words.fold(lastOf(group))}
            </button>
          </div>
        </Standing>
      ))}
      <Lines graph={graph} layout={layout} />
      <ul aria-label={words.picture} onKeyDown={onKeyDown}>
        {graph.nodes.map((node) => (
          <Standing key={node.id} as="li" box={layout.boxes.get(node.id)}>
            <Step
              node={node}
              lit={lit.get(node.id)}
              leads={leadsTo(graph, node.id)}
              isCurrent={node.id === current}
              onFocus={() => setChosen(node.id)}
              onToggle={onToggle}
            />
          </Standing>
        ))}
      </ul>
    </>
  );
});

function Standing({ box, as: Kind = "div", children }: { box: Box | undefined; as?: "div" | "li"; children: ReactNode }) {
  if (box === undefined) return null;
  const { x, y, width, height } = box;
  return (
    <Kind className={styles.standing} style={{ left: x, top: y, width, height }}>
      {children}
    </Kind>
  );
}

interface StepProps {
  node: DrawnNode;
  lit: Lit | undefined;
  leads: string | null;
  isCurrent: boolean;
  onFocus: () => void;
  onToggle: (group: string) => void;
}

function Step({ node, lit, leads, isCurrent, onFocus, onToggle }: StepProps) {
  const { id, kind } = node;
  const name = nameOf(id);
  const label = lit ? `${name}: ${words.lit[lit]}` : name;
  const className = cx(styles.step, styles[`is-${kind}`], lit && styles[lit]);
  const reached = { "data-node": id, tabIndex: isCurrent ? 0 : -1, onFocus, className };
  if (kind === "subgraph") {
    return (
      <button type="button" {...reached} data-toggles={id} aria-label={words.open(label)} title={leads ?? words.kinds[kind]} onClick={() => onToggle(id)}>
        <ForkIcon />
        <span>{name}</span>
      </button>
    );
  }
  const isEnd = kind === "start" || kind === "end";
  const sentences = [label, isEnd ? null : words.kinds[kind], leads].filter((each) => each !== null);
  return (
    <div {...reached} role="img" aria-label={sentences.map((each) => each.replace(/\.$/, "")).join(". ")} title={isEnd ? undefined : words.kinds[kind]}>
      {kind === "approval" && <PersonIcon />}
      <span>{name}</span>
    </div>
  );
}

/** The node to which a key leads: the nearest one in an arrow's direction, or the first or last. */
function nextOf(key: string, from: string, nodes: Drawn["nodes"], boxes: Layout["boxes"]): string | undefined {
  if (key === "Home") return nodes[0]?.id;
  if (key === "End") return nodes.at(-1)?.id;
  const here = boxes.get(from);
  if (here === undefined) return undefined;
  let nearest: string | undefined;
  let least = Infinity;
  for (const { id } of nodes) {
    const box = boxes.get(id);
    if (box === undefined || id === from) continue;
    const right = box.x + box.width / 2 - (here.x + here.width / 2);
    const down = box.y + box.height / 2 - (here.y + here.height / 2);
    const [along, across] =
      key === "ArrowDown" ? [down, right] : key === "ArrowUp" ? [-down, right] : key === "ArrowRight" ? [right, down] : key === "ArrowLeft" ? [-right, down] : [0, 0];
    // What is aside counts more than what is far.
    const distance = along + 2 * Math.abs(across);
    if (along <= 0 || distance >= least) continue;
    nearest = id;
    least = distance;
  }
  return nearest;
}

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

function Lines({ graph, layout }: { graph: Drawn; layout: Layout }) {
  const arrow = useId();
  return (
    <svg className={styles.lines} width={layout.width} height={layout.height} aria-hidden="true">
      <marker id={arrow} className={styles.arrow} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">
        <path d="M0 0L10 5L0 10z" />
      </marker>
      {graph.edges.map(({ id, isConditional }) => (
        <path key={id} className={cx(styles.edge, isConditional && styles.conditional)} d={pathOf(layout.ways.get(id) ?? [])} markerEnd={`url(#${arrow})`} />
      ))}
      {graph.edges.map(({ id, label }) => {
        const at = layout.labels.get(id);
        return (
          at && (
            <text key={id} className={styles.label} x={at.x} y={at.y}>
              {label}
            </text>
          )
        );
      })}
    </svg>
  );
}

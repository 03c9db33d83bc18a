/** An agent's graph as it is drawn: subgraphs are one node each until they are opened. Pure. */

export interface DrawnNode {
  /** Its place: `outer:inner:node`. */
  readonly id: string;
  readonly name: string;
  readonly kind: "start" | "end" | "node" | "approval" | "subgraph";
  /** The opened subgraph in which it is, null at the top. */
  readonly group: string | null;
  readonly tools: readonly string[];
}

export interface DrawnEdge {
  readonly id: string;
  readonly source: string;
  readonly target: string;
  readonly isConditional: boolean;
  readonly label: string;
}

export interface Drawn {
  readonly nodes: readonly DrawnNode[];
  readonly edges: readonly DrawnEdge[];
  /** Opened subgraphs, outer ones first. */
  readonly groups: readonly string[];
}

interface Given {
  readonly graphs: readonly {
    readonly path: readonly string[];
    readonly nodes: readonly {
      readonly id: string;
      readonly kind: "start" | "end" | "node" | "subgraph";
      readonly pauses: readonly string[];
      readonly tools: readonly string[];
    }[];
    readonly edges: readonly {
      readonly source: string;
      readonly target: string;
      readonly conditional: boolean;
      readonly label: string | null;
    }[];
  }[];
}

const SEPARATOR = ":";

const placeOf = (...steps: readonly string[]) => steps.join(SEPARATOR);

/** The subgraphs around a place, outermost first. */
export function around(id: string): string[] {
  const steps = id.split(SEPARATOR);
  return steps.slice(0, -1).map((_, place) => placeOf(...steps.slice(0, place + 1)));
}

/** The last step of a place. */
export function lastOf(id: string): string {
  return id.slice(id.lastIndexOf(SEPARATOR) + 1);
}

/** What stands for a place while some subgraphs are closed: the outermost closed one around it. */
export function shownAs(id: string, opened: ReadonlySet<string>): string {
  return around(id).find((group) => !opened.has(group)) ?? id;
}

/** The graph with these subgraphs opened: what leads to one leads to its start, and goes on from its
 * end. */
export function drawn(given: Given, opened: ReadonlySet<string>): Drawn {
  const there = new Map(given.graphs.map((graph) => [placeOf(...graph.path), graph]));
  const isOpen = (id: string) => opened.has(id) && there.has(id);
  const endOf = (id: string, kind: "start" | "end"): string => {
    const inner = isOpen(id) ? there.get(id)?.nodes.find((node) => node.kind === kind) : undefined;
    return inner === undefined ? id : endOf(placeOf(id, inner.id), kind);
  };
  const nodes: DrawnNode[] = [];
  const edges = new Map<string, DrawnEdge>();
  const groups: string[] = [];
  for (const { path, nodes: its, edges: ways } of given.graphs) {
    const group = placeOf(...path);
    const outer = path.map((_, place) => placeOf(...path.slice(0, place + 1)));
    if (!outer.every(isOpen)) continue;
    if (group !== "") groups.push(group);
    for (const { id: name, kind, pauses, tools } of its) {
      const id = placeOf(...path, name);
      if (kind === "subgraph" && isOpen(id)) continue;
      const shown = kind === "subgraph" && !there.has(id) ? "node" : kind;
      nodes.push({ id, name, kind: shown === "node" && pauses.length > 0 ? "approval" : shown, group: group || null, tools });
    }
    for (const { source: from, target: to, conditional, label } of ways) {
      const source = endOf(placeOf(...path, from), "end");
      const target = endOf(placeOf(...path, to), "start");
      const id = `${source} ${target}`;
      edges.set(id, { id, source, target, isConditional: conditional, label: label === to ? "" : (label ?? "") });
    }
  }
  return { nodes, edges: [...edges.values()], groups };
}

interface Task {
  readonly name: string;
  readonly state: { readonly tasks: readonly Task[] } | null;
}

/** The places of the tasks of a state: of a subgraph those inside it. */
export function placesOf(tasks: readonly Task[], outer: readonly string[] = []): string[] {
  return tasks.flatMap((task) => {
    const path = [...outer, task.name];
    const inner = task.state?.tasks ?? [];
    return inner.length > 0 ? placesOf(inner, path) : [path.join(SEPARATOR)];
  });
}

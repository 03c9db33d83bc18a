/** The history of a thread as a tree: which line each checkpoint stands on. Pure. */

export interface Placed {
  /** The line of the checkpoint, from the left. */
  readonly lane: number;
  /** Lines that pass beside it. */
  readonly passing: readonly number[];
  /** Lines that come to it from above: its children. */
  readonly joining: readonly number[];
  /** Its parent is below. */
  readonly goesOn: boolean;
}

export interface Node {
  readonly id: string;
  readonly parent: string | null;
}

/** Places for checkpoints that are newest first: a branch has a line of its own until it meets the
 * state from which it went off. */
export function placed(nodes: readonly Node[]): Placed[] {
  /** What each line leads to; null for one that is free. */
  const lanes: (string | null)[] = [];
  const known = new Set(nodes.map((node) => node.id));
  return nodes.map(({ id, parent }) => {
    const joining = lanes.flatMap((wanted, lane) => (wanted === id ? [lane] : []));
    const free = lanes.indexOf(null);
    const lane = joining[0] ?? (free < 0 ? lanes.length : free);
    for (const other of joining) lanes[other] = null;
    const passing = lanes.flatMap((wanted, other) => (wanted === null ? [] : [other]));
    const goesOn = parent !== null && known.has(parent);
    lanes[lane] = goesOn ? parent : null;
    return { lane, passing, joining, goesOn };
  });
}

import { useMe } from "../../layout/SessionGate.tsx";
import { useLive } from "../../live.tsx";

/** Runs of others are in no feed that one may follow for sure, so they are looked at so often. */
const LOOKED_AT = 15_000;

const TYPES = ["run_start", "run_resumed", "run_paused", "run_recovered", "run_cancelled", "done", "error"] as const;

/** Has runs read anew as they change: those of the agent, or else those of who is here at once and
 * all others a little later. */
export function useLiveRuns(agent: string | null): void {
  const { name } = useMe();
  useLive(agent === null ? "user" : "agent", agent ?? name, TYPES, ["runs"], LOOKED_AT);
}

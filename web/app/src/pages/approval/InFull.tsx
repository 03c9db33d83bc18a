import type { ApprovalForYou } from "@assent/client";
import { messages } from "../../messages/en.ts";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Notice } from "../../parts/states.tsx";
import { Risk } from "../../parts/statuses.tsx";
import styles from "./ApprovalCard.module.css";
import { Effect } from "./Effect.tsx";
import { sentenceFor } from "./question.ts";

/** Whether a mere yes or no says all that is to be said about it: an outcome that nobody knows, a
 * budget and a question are looked at by themselves. */
export function isYesOrNo({ kind }: ApprovalForYou): boolean {
  return kind === "tool" || kind === "node";
}

/** An approval among others that are decided together: nothing that would run is left out. */
export function InFull({ approval }: { approval: ApprovalForYou }) {
  const { before, name, after } = sentenceFor(approval);
  return (
    <div className={styles.section}>
      <div>
        <Marked text={before} />{" "}
        <code className={styles.tool}>
          <Marked text={name} />
        </code>
        {after} <Risk risk={approval.risk} />
      </div>
      {approval.args !== null && <Json value={approval.args} />}
      {approval.preview !== null && (
        <>
          <div className={styles.label}>{messages.approval.effect}</div>
          <Effect preview={approval.preview} />
        </>
      )}
      {approval.warnings.map((warning) => (
        <Notice key={warning} tone="bad">
          <Marked text={warning} />
        </Notice>
      ))}
    </div>
  );
}

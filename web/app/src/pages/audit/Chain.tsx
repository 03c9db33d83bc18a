import type { AuditVerification } from "@assent/client";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { assent } from "../../assent.ts";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { TextField } from "../../parts/Field.tsx";
import { ShieldIcon } from "../../parts/icons.tsx";
import { Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Notice } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { fullTime, number } from "../../parts/times.ts";
import styles from "./Audit.module.css";

const words = messages.audit;

/** The chain as a whole: its head, and whether it is as it was written. */
export function Chain() {
  const me = useMe();
  const [kept, setKept] = useState("");
  const head = useQuery({ queryKey: ["approvals", "audit", "head"], queryFn: () => assent.audit.head() });
  const verify = useMutation({
    mutationFn: async (given: string) => {
      const found = await assent.audit.verify(given === "" ? {} : { head: given });
      return { found, withHead: given !== "" };
    },
    onSuccess: () => void head.refetch(),
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    verify.mutate(kept.trim());
  };
  const text = head.data ? `${head.data.number}:${head.data.mac}` : null;
  return (
    <Panel title={words.chain}>
      <div className={styles.chain}>
        <div className={styles.part}>
          <h3 className={styles.label}>{words.head}</h3>
          {head.isError && <p className={styles.error}>{sentenceOf(head.error)}</p>}
          {head.data === null && <p className={styles.quiet}>{words.noHead}</p>}
          {text !== null && head.data && (
            <>
              <div className={styles.head}>
                <code>{text}</code>
                <Copy text={text} label={words.copyHead} />
              </div>
              <p className={styles.quiet}>
                {words.headOf} <Time at={head.data.at} />. {words.headHint}
              </p>
            </>
          )}
        </div>
        {/* Whoever is of a tenant sees a part of the chain, which cannot be verified alone. */}
        {me.tenant === null && (
          <form className={styles.part} onSubmit={send}>
            <TextField
              label={words.kept}
              hint={words.keptHint}
              value={kept}
              code
              autoComplete="off"
              spellCheck={false}
              error={verify.isError ? sentenceOf(verify.error) : null}
              onChange={(event) => {
                setKept(event.target.value);
                verify.reset();
              }}
            />
            <div>
              <Button type="submit" busy={verify.isPending}>
                <ShieldIcon />
                {words.verify}
              </Button>
            </div>
          </form>
        )}
      </div>
      <div aria-live="polite">{verify.data && <Verdict of={verify.data.found} withHead={verify.data.withHead} />}</div>
    </Panel>
  );
}

function Verdict({ of: { head, broken, unchecked }, withHead }: { of: AuditVerification; withHead: boolean }) {
  const keys = Object.entries(unchecked);
  if (broken !== null) {
    return (
      <Notice tone="bad" urgent>
        <p>
          <strong>{words.broken}</strong> {broken.sentence}
        </p>
        <p>{words.brokenHint(number(broken.number))}</p>
      </Notice>
    );
  }
  if (keys.length > 0) {
    return (
      <Notice tone="waiting" urgent>
        <p>
          <strong>{words.unchecked}</strong>{" "}
          {keys.map(([key, count]) => words.uncheckedBy(key, number(count))).join(", ")}
        </p>
        <p>{words.uncheckedHint}</p>
      </Notice>
    );
  }
  return (
    <Notice tone="good">
      <p>
        <strong>{words.whole}</strong> {head === null ? words.noRows : words.wholeOf(number(head.number), fullTime(head.at))}
      </p>
      <p>{withHead ? words.wholeWithHead : words.wholeWithoutHead}</p>
    </Notice>
  );
}

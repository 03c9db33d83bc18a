import type { Grant } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Badge, type Tone } from "../../parts/Badge.tsx";
import { Button } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { Confirm } from "../../parts/Dialog.tsx";
import { KeyIcon, PlusIcon } from "../../parts/icons.tsx";
import { Listed, usePages } from "../../parts/Listed.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Empty, Notice } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { number } from "../../parts/times.ts";
import { GrantForm } from "./GrantForm.tsx";
import styles from "./Grants.module.css";
import { boundText, type Standing, standingOf } from "./words.ts";

const words = messages.grants;
const TONES: Record<Standing, Tone> = { open: "active", used: "neutral", over: "neutral", revoked: "bad" };

/** What was approved in advance, and so is done without a person. */
export default function GrantsPage() {
  const me = useMe();
  const [isMaking, setIsMaking] = useState(false);
  const [revoking, setRevoking] = useState<Grant | null>(null);
  const [shown, setShown] = useState<"open" | "all">("open");
  // An approval that a grant has answered counts as one of its uses.
  const grants = usePages(["approvals", "grants"], (cursor) => assent.grants.list({ limit: 50, cursor }));
  const mayGrant = me.rights.includes("decide");
  const add = mayGrant && (
    <Button look="primary" onClick={() => setIsMaking(true)}>
      <PlusIcon />
      {words.add}
    </Button>
  );
  const empty = (
    <Empty icon={<KeyIcon />} title={words.empty}>
      {words.emptyHint}
    </Empty>
  );
  return (
    <Page title={messages.layout.grants} sub={words.sub} actions={add}>
      <Listed pages={grants} empty={empty}>
        {(items) => {
          const open = items.filter((grant) => standingOf(grant) === "open");
          const chosen = shown === "open" ? open : items;
          return (
            <>
              <div className={styles.shown}>
                <Segmented
                  label={words.shown}
                  value={shown}
                  options={[
                    { value: "open", label: words.openOnly(open.length) },
                    { value: "all", label: words.all },
                  ]}
                  onChange={setShown}
                />
              </div>
              {chosen.length === 0 ? (
                <Empty icon={<KeyIcon />} title={words.noneOpen}>
                  {words.noneOpenHint}
                </Empty>
              ) : (
                <Panel flush>
                  <ul>
                    {chosen.map((grant) => (
                      <Row key={grant.grant_id} grant={grant} onRevoke={mayGrant ? () => setRevoking(grant) : undefined} />
                    ))}
                  </ul>
                </Panel>
              )}
            </>
          );
        }}
      </Listed>
      {isMaking && <GrantForm onClose={() => setIsMaking(false)} />}
      <Revoke grant={revoking} onClose={() => setRevoking(null)} />
    </Page>
  );
}

function Row({ grant, onRevoke }: { grant: Grant; onRevoke: (() => void) | undefined }) {
  const standing = standingOf(grant);
  return (
    <li className={cx(styles.row, standing !== "open" && styles.past)}>
      <div className={styles.said}>
        <p className={styles.call}>
          {words.calls} <code><Marked text={grant.tool} /></code> {words.ofAgent} <Marked text={grant.agent} />
        </p>
        <Bounds of={grant.bounds} />
        <p className={styles.quiet}>
          <Scope grant={grant} />
          {words.givenBy} <Marked text={grant.given_by} /> <Time at={grant.given_at} />
          {grant.revoked_at && (
            <>
              {", "}
              {words.revokedBy} <Marked text={grant.revoked_by ?? ""} /> <Time at={grant.revoked_at} />
            </>
          )}
        </p>
      </div>
      <div className={styles.use}>
        <span className={styles.count}>{words.used(number(grant.used), number(grant.uses))}</span>
        <progress className={styles.bar} value={grant.used} max={grant.uses} aria-label={words.used(number(grant.used), number(grant.uses))} />
        <span className={styles.quiet}>
          {standing === "over" ? words.ended : words.until} <Time at={grant.until} />
        </span>
      </div>
      <div className={styles.end}>
        <Badge tone={TONES[standing]} dot>
          {words.standings[standing]}
        </Badge>
        {standing === "open" && onRevoke && (
          <Button small look="danger" onClick={onRevoke} aria-label={words.revokeThis(grant.tool)}>
            {words.revoke}
          </Button>
        )}
      </div>
    </li>
  );
}

/** Each argument and what it may be. A call with any other argument is asked as always. */
function Bounds({ of: bounds }: { of: Grant["bounds"] }) {
  const entries = Object.entries(bounds);
  if (entries.length === 0) return <p className={styles.bounds}>{words.noArguments}</p>;
  return (
    <ul className={styles.bounds} aria-label={words.bounds}>
      {entries.map(([name, bound]) => (
        <li key={name} className={cx(styles.bound, bound.any && styles.any)}>
          <code>
            <Marked text={name} />
          </code>{" "}
          <Marked text={boundText(bound)} />
        </li>
      ))}
    </ul>
  );
}

function Scope({ grant }: { grant: Grant }) {
  return (
    <>
      {grant.user && (
        <>
          {words.forUser} <Marked text={grant.user} />
          {", "}
        </>
      )}
      {grant.thread_id && (
        <>
          {words.inThread} <Link href={`/chat/${grant.thread_id}`}>{grant.thread_id}</Link>
          {", "}
        </>
      )}
    </>
  );
}

function Revoke({ grant, onClose }: { grant: Grant | null; onClose: () => void }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const revoke = useMutation({
    mutationFn: (id: string) => assent.grants.revoke(id),
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: ["approvals", "grants"] });
      announce(words.isRevoked);
      onClose();
    },
  });
  return (
    <Confirm
      open={grant !== null}
      onOpenChange={(open) => {
        if (!open) onClose();
        revoke.reset();
      }}
      title={words.revokeQuestion}
      verb={words.revokeIt}
      busy={revoke.isPending}
      onConfirm={() => grant && revoke.mutate(grant.grant_id)}
    >
      <div className={styles.form}>
        {grant && (
          <p>
            {words.calls} <code><Marked text={grant.tool} /></code> {words.ofAgent} <Marked text={grant.agent} />
          </p>
        )}
        <p>{words.revokeHint}</p>
        {revoke.isError && (
          <Notice tone="bad" urgent>
            {sentenceOf(revoke.error)}
          </Notice>
        )}
      </div>
    </Confirm>
  );
}

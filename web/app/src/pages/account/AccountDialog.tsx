import type { ApiKey } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, type ReactNode, useState } from "react";
import { assent } from "../../assent.ts";
import { type Me, useMe } from "../../layout/SessionGate.tsx";
import { useSignOut } from "../../layout/sign-out.ts";
import { messages } from "../../messages/en.ts";
import { wordOf } from "../../messages/word-of.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Badge } from "../../parts/Badge.tsx";
import { Button } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { Confirm, Dialog } from "../../parts/Dialog.tsx";
import { CheckField, SelectField, TextField } from "../../parts/Field.tsx";
import { PlusIcon } from "../../parts/icons.tsx";
import { Listed, usePages } from "../../parts/Listed.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Notice } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { serverNow } from "../../parts/times.ts";
import styles from "./AccountDialog.module.css";

const words = messages.account;
const DAY = 24 * 60 * 60 * 1000;

/** Ways in which the server itself knows people: with others it keeps no keys and no sessions. */
const KEEPS_KEYS = new Set(["session", "api_key", "token"]);

type Step = { at: "account" } | { at: "making" } | { at: "made"; text: string };

/** Who is here, what they may do, their keys, and the way out. */
export default function AccountDialog({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const me = useMe();
  const [step, setStep] = useState<Step>({ at: "account" });
  const { leave, isLeaving, error } = useSignOut();
  const change = (next: boolean) => {
    onOpenChange(next);
    if (!next) setStep({ at: "account" });
  };
  const titles = { account: messages.layout.account, making: words.makeKey, made: words.made };
  const actions: Record<Step["at"], ReactNode> = {
    account: me.authentication === "session" && (
      <Button busy={isLeaving} onClick={leave}>
        {messages.actions.signOut}
      </Button>
    ),
    making: null,
    made: (
      <Button look="primary" onClick={() => setStep({ at: "account" })}>
        {words.kept}
      </Button>
    ),
  };
  return (
    <Dialog open={open} onOpenChange={change} title={titles[step.at]} actions={actions[step.at]}>
      {step.at === "account" && (
        <div className={styles.parts}>
          {error && <Notice tone="bad" urgent>{error}</Notice>}
          <Who me={me} />
          {KEEPS_KEYS.has(me.authentication) && <Keys me={me} onMake={() => setStep({ at: "making" })} />}
        </div>
      )}
      {step.at === "making" && (
        <MakeKey me={me} onBack={() => setStep({ at: "account" })} onMade={(text) => setStep({ at: "made", text })} />
      )}
      {step.at === "made" && (
        <div className={styles.parts}>
          <Notice tone="waiting">{words.onlyNow}</Notice>
          <div className={styles.secret}>
            <code>{step.text}</code>
            <Copy text={step.text} label={words.copyKey} />
          </div>
        </div>
      )}
    </Dialog>
  );
}

function Who({ me }: { me: Me }) {
  if (me.authentication === "local") return <Notice>{words.local}</Notice>;
  const known: readonly string[] = me.rights;
  const rights = Object.entries(words.rights).filter(([right]) => known.includes(right)).map(([, said]) => said);
  const { everything, tools, roles } = me.approves;
  const approves = everything ? words.approvesAll : words.approves(tools, roles);
  return (
    <Facts
      of={[
        [words.name, <Marked text={me.name} />],
        [words.tenant, me.tenant],
        [words.roles, me.roles.length > 0 && <Badges of={me.roles} />],
        [words.may, rights.length > 0 && <ul className={styles.rights}>{rights.map((right) => <li key={right}>{right}</li>)}</ul>],
        [words.decides, me.rights.includes("decide") && approves],
        [words.known, wordOf(words.ways, me.authentication)],
        [words.until, me.expires_at && <Time at={me.expires_at} />],
      ]}
    />
  );
}

function Badges({ of }: { of: readonly string[] }) {
  return (
    <span className={styles.badges}>
      {of.map((each) => (
        <Badge key={each}>{each}</Badge>
      ))}
    </span>
  );
}

// ── keys ─────────────────────────────────────────────────────────────────────────────────────────

function Keys({ me, onMake }: { me: Me; onMake: () => void }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [revoking, setRevoking] = useState<ApiKey | null>(null);
  const keys = usePages(["keys"], (cursor) => assent.keys.list({ limit: 20, cursor }));
  const revoke = useMutation({
    mutationFn: (key: ApiKey) => assent.keys.revoke(key.key_id),
    onSuccess: () => {
      announce(words.revoked);
      setRevoking(null);
      void queries.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  const isAdmin = me.rights.includes("admin");
  return (
    <section className={styles.keys} aria-labelledby="account-keys">
      <div className={styles.keysHead}>
        <h3 id="account-keys">{isAdmin ? words.keysOfAll : words.keys}</h3>
        <Button small onClick={onMake}>
          <PlusIcon />
          {words.makeKey}
        </Button>
      </div>
      <Listed pages={keys} empty={<p className={styles.quiet}>{words.noKeys}</p>}>
        {(items) => (
          <ul className={styles.list}>
            {items.map((key) => (
              <KeyRow key={key.key_id} of={key} withPerson={isAdmin} onRevoke={() => setRevoking(key)} />
            ))}
          </ul>
        )}
      </Listed>
      <Confirm
        open={revoking !== null}
        onOpenChange={(open) => {
          if (!open) setRevoking(null);
          revoke.reset();
        }}
        title={words.revokeQuestion}
        verb={words.revoke}
        busy={revoke.isPending}
        onConfirm={() => revoking && revoke.mutate(revoking)}
      >
        <p>
          <strong>
            <Marked text={revoking?.note || revoking?.key_id || ""} />
          </strong>
        </p>
        <p>{words.revokeHint}</p>
        {revoke.isError && <Notice tone="bad" urgent>{sentenceOf(revoke.error)}</Notice>}
      </Confirm>
    </section>
  );
}

function isOver(key: ApiKey): boolean {
  return key.revoked_at !== null || (key.expires_at !== null && Date.parse(key.expires_at) <= serverNow());
}

function KeyRow({ of: key, withPerson, onRevoke }: { of: ApiKey; withPerson: boolean; onRevoke: () => void }) {
  const over = isOver(key);
  return (
    <li className={styles.key}>
      <div className={styles.keyText}>
        <span className={styles.keyName}>
          <Marked text={key.note || words.noNote} />
          {key.revoked_at && <Badge tone="bad">{words.isRevoked}</Badge>}
          {over && !key.revoked_at && <Badge>{words.isExpired}</Badge>}
        </span>
        <span className={styles.quiet}>
          {withPerson && (
            <>
              <Marked text={key.person} />
              {" · "}
            </>
          )}
          <code>{key.key_id}</code>
          {" · "}
          {key.roles.join(", ")}
          {" · "}
          {key.last_used_at ? (
            <>
              {words.used} <Time at={key.last_used_at} />
            </>
          ) : (
            words.neverUsed
          )}
          {key.expires_at && !over && (
            <>
              {" · "}
              {words.expires} <Time at={key.expires_at} />
            </>
          )}
        </span>
      </div>
      {!over && (
        <Button small look="danger" onClick={onRevoke} aria-label={words.revokeThis(key.note || key.key_id)}>
          {words.revoke}
        </Button>
      )}
    </li>
  );
}

// ── a new key ────────────────────────────────────────────────────────────────────────────────────

/** Roles that an admin gives to somebody else; approvers are made in the server's settings. */
const FOR_OTHERS = ["viewer", "operator", "auditor", "admin"];
const LIFETIMES = ["7", "30", "90", "365", ""] as const;

function MakeKey({ me, onBack, onMade }: { me: Me; onBack: () => void; onMade: (text: string) => void }) {
  const queries = useQueryClient();
  const isAdmin = me.rights.includes("admin");
  const [person, setPerson] = useState("");
  const [note, setNote] = useState("");
  const [days, setDays] = useState<string>("90");
  const [chosen, setChosen] = useState<readonly string[]>(me.roles);
  const [missing, setMissing] = useState(false);
  const isForOther = person.trim() !== "" && person.trim() !== me.name;
  const offered = isForOther ? FOR_OTHERS : me.roles;
  const roles = offered.filter((role) => chosen.includes(role));
  const make = useMutation({
    mutationFn: () =>
      assent.keys.create({
        roles: [...roles],
        note: note.trim(),
        person: isForOther ? person.trim() : null,
        expires_at: days === "" ? null : new Date(serverNow() + Number(days) * DAY).toISOString(),
      }),
    onSuccess: ({ key }) => {
      void queries.invalidateQueries({ queryKey: ["keys"] });
      onMade(key);
    },
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    setMissing(roles.length === 0);
    if (roles.length > 0) make.mutate();
  };
  const toggle = (role: string, on: boolean) =>
    setChosen(on ? [...chosen, role] : chosen.filter((each) => each !== role));
  return (
    <form className={styles.parts} onSubmit={send}>
      {make.isError && <Notice tone="bad" urgent>{sentenceOf(make.error)}</Notice>}
      <TextField label={words.note} hint={words.noteHint} value={note} maxLength={500} onChange={(event) => setNote(event.target.value)} />
      {isAdmin && (
        <TextField
          label={words.person}
          hint={words.personHint}
          value={person}
          maxLength={200}
          autoComplete="off"
          placeholder={me.name}
          onChange={(event) => setPerson(event.target.value)}
        />
      )}
      <fieldset>
        <legend className={styles.legend}>{words.rolesOfKey}</legend>
        {offered.map((role) => (
          <CheckField key={role} label={role} checked={chosen.includes(role)} onChange={(event) => toggle(role, event.target.checked)} />
        ))}
        {offered.length === 0 && <p className={styles.quiet}>{words.noRoles}</p>}
        {missing && <p className={styles.error} role="alert">{words.chooseRole}</p>}
      </fieldset>
      <SelectField
        label={words.lasts}
        value={days}
        options={LIFETIMES.map((each) => ({ value: each, label: words.lifetimes[each] }))}
        onChange={(event) => setDays(event.target.value)}
      />
      <div className={styles.actions}>
        <Button onClick={onBack}>{messages.actions.cancel}</Button>
        <Button type="submit" look="primary" busy={make.isPending}>
          {words.makeKey}
        </Button>
      </div>
    </form>
  );
}

import { useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { SelectField, TextField } from "../../parts/Field.tsx";
import { serverNow } from "../../parts/times.ts";
import { type AboutProps, Asking, useDoing } from "./More.tsx";
import { objectOf } from "./question.ts";

const words = messages.approval.grant;

type Kind = "exactly" | "upTo" | "any";
const HOUR = 3600_000;
const TIMES = { hour: HOUR, day: 24 * HOUR, week: 7 * 24 * HOUR, month: 30 * 24 * HOUR };
type Length = keyof typeof TIMES;
const LENGTHS: Length[] = ["hour", "day", "week", "month"];
/** A value in the list of bounds is shortened to this; the card shows it whole. */
const SHOWN = 40;

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "";
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

function boundOf(kind: Kind, value: unknown): Record<string, unknown> {
  if (kind === "any") return { any: true };
  return kind === "upTo" ? { max: value } : { among: [value] };
}

/** A standing grant for calls like this one, within the bounds that are chosen for each argument. */
export default function Granting({ approval, onClose }: AboutProps) {
  const args = objectOf(approval.args) ?? {};
  const [kinds, setKinds] = useState<Record<string, Kind>>({});
  const asker = approval.requested_by[0] ?? "";
  const [scope, setScope] = useState<"thread" | "user">("thread");
  const [uses, setUses] = useState("10");
  const [length, setLength] = useState<Length>("day");
  const doing = useDoing(approval.approval_id, onClose);

  const work = () => {
    const bounds = Object.entries(args).map(([name, value]) => [name, boundOf(kinds[name] ?? "exactly", value)]);
    return assent.grants.create({
      tool: approval.tool,
      agent: approval.agent,
      bounds: Object.fromEntries(bounds),
      until: new Date(serverNow() + TIMES[length]).toISOString(),
      uses: Number(uses),
      ...(scope === "thread" ? { thread_id: approval.thread_id } : { user: asker }),
    });
  };
  const isKind = (value: string): value is Kind => value === "exactly" || value === "upTo" || value === "any";
  return (
    <Asking
      title={words.title(approval.tool)}
      verb={words.verb}
      hint={words.hint}
      busy={doing.isPending}
      error={doing.error}
      disabled={!/^[1-9]\d*$/.test(uses)}
      onClose={onClose}
      onDo={() => doing.mutate({ work, told: words.done })}
    >
      {Object.entries(args).map(([name, value]) => (
        <SelectField
          key={name}
          label={words.bound(name)}
          value={kinds[name] ?? "exactly"}
          options={[
            { value: "exactly", label: words.exactly(shown(value)) },
            ...(typeof value === "number" ? [{ value: "upTo", label: words.upTo(shown(value)) }] : []),
            { value: "any", label: words.any },
          ]}
          onChange={({ target }) => {
            if (isKind(target.value)) setKinds({ ...kinds, [name]: target.value });
          }}
        />
      ))}
      <SelectField
        label={words.scope}
        value={scope}
        options={[
          { value: "thread", label: words.thread },
          ...(asker ? [{ value: "user", label: words.user(asker) }] : []),
        ]}
        onChange={(event) => setScope(event.target.value === "user" ? "user" : "thread")}
      />
      <TextField
        label={words.uses}
        inputMode="numeric"
        value={uses}
        onChange={(event) => setUses(event.target.value)}
      />
      <SelectField
        label={words.until}
        value={length}
        options={LENGTHS.map((each) => ({ value: each, label: words[each] }))}
        onChange={(event) => setLength(LENGTHS.find((each) => each === event.target.value) ?? "day")}
      />
    </Asking>
  );
}

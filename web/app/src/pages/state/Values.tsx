import { isObject } from "@assent/client";
import { messages } from "../../messages/en.ts";
import { Badge, type Tone } from "../../parts/Badge.tsx";
import { Json, Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { bytes } from "../../parts/times.ts";
import styles from "./StatePage.module.css";

const words = messages.state;

/** From here on a channel is folded at first: characters of its JSON. */
const LARGE = 20_000;
/** Messages that are shown of a long conversation: its last ones. */
const MESSAGES = 20;

/** The values of a state, channel by channel. */
export function Values({ values }: { values: unknown }) {
  if (!isObject(values)) return <Json value={values} />;
  const channels = Object.entries(values);
  if (channels.length === 0) return <p className={styles.quiet}>{words.noValues}</p>;
  return channels.map(([name, value]) => <Channel key={name} name={name} value={value} />);
}

function Channel({ name, value }: { name: string; value: unknown }) {
  const size = JSON.stringify(value)?.length ?? 0;
  const isConversation = Array.isArray(value) && value.length > 0 && value.every((each) => isObject(each) && "content" in each && "type" in each);
  return (
    <details className={styles.channel} open={size <= LARGE}>
      <summary>
        <code>
          <Marked text={name} />
        </code>
        <span className={styles.quiet}>{bytes(size)}</span>
      </summary>
      {isConversation ? <Conversation messages={value} /> : <Json value={value} depth={2} />}
    </details>
  );
}

const TONES: Record<string, Tone> = { ai: "model", AIMessageChunk: "model", tool: "active" };

function Conversation({ messages: all }: { messages: readonly unknown[] }) {
  const earlier = Math.max(0, all.length - MESSAGES);
  return (
    <>
      {earlier > 0 && (
        <details className={styles.earlier}>
          <summary>{words.earlier(earlier)}</summary>
          <Json value={all.slice(0, earlier)} depth={1} />
        </details>
      )}
      <ol className={styles.messages}>
        {all.slice(earlier).map((message, place) => isObject(message) && <Message key={place} message={message} />)}
      </ol>
    </>
  );
}

function Message({ message }: { message: Record<string, unknown> }) {
  const { type, content, name, tool_calls: calls } = message;
  const kind = String(type);
  const roles: Record<string, string> = words.roles;
  return (
    <li className={styles.message}>
      <Badge tone={TONES[kind] ?? "neutral"}>
        {roles[kind] ?? kind}
        {typeof name === "string" && name !== "" ? `: ${name}` : ""}
      </Badge>
      {typeof content === "string" ? content !== "" && <Text text={content} /> : <Json value={content} depth={1} />}
      {Array.isArray(calls) &&
        calls.map(
          (call: unknown, place) =>
            isObject(call) && (
              <div key={place} className={styles.call}>
                <code>
                  <Marked text={String(call["name"])} />
                </code>
                <Json value={call["args"]} depth={1} />
              </div>
            ),
        )}
    </li>
  );
}

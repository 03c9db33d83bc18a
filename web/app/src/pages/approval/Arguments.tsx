import { useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { number } from "../../parts/times.ts";
import styles from "./ApprovalCard.module.css";
import { objectOf } from "./question.ts";

const words = messages.approval;

/** Rows that are shown before one asks for the others. */
const ROWS = 30;

export interface ArgumentsProps {
  args: unknown;
  /** The tool's JSON Schema, which says what each argument is. */
  schema?: unknown;
}

function aboutOf(schema: unknown, name: string): string | null {
  const about = objectOf(objectOf(objectOf(schema)?.["properties"])?.[name])?.["description"];
  return typeof about === "string" ? about : null;
}

/** The exact arguments: a name and a value a row, each value of the type that it has. */
export function Arguments({ args, schema }: ArgumentsProps) {
  const [whole, setWhole] = useState(false);
  const fields = objectOf(args);
  if (fields === null) return <Json value={args} />;
  const entries = Object.entries(fields);
  if (entries.length === 0) return <p className={styles.quiet}>{words.nothing}</p>;
  const shown = whole ? entries : entries.slice(0, ROWS);
  const left = entries.length - shown.length;
  return (
    <>
      <table className={styles.arguments}>
        <caption className="sr-only">{words.argument}</caption>
        <tbody>
          {shown.map(([name, value]) => {
            const about = aboutOf(schema, name);
            return (
              <tr key={name}>
                <th scope="row">
                  <Marked text={name} />
                  {about && (
                    <span className={styles.about}>
                      <Marked text={about} />
                    </span>
                  )}
                </th>
                <td>
                  <Json value={value} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {left > 0 && (
        <Button small onClick={() => setWhole(true)}>
          {words.moreArguments(number(left))}
        </Button>
      )}
    </>
  );
}

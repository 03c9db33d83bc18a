import { useMemo, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { DownloadIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { save } from "../../parts/save.ts";
import { bytes } from "../../parts/times.ts";
import styles from "./ApprovalCard.module.css";

const words = messages.approval;

/** Characters that are drawn before one asks for all. */
const SHOWN = 4_000;

/** A value as JSON, one click away, to be copied or saved exactly as it is. */
export function Raw({ value, name }: { value: unknown; name: string }) {
  const [open, setOpen] = useState(false);
  const [whole, setWhole] = useState(false);
  const text = useMemo(() => (open ? (JSON.stringify(value, null, 2) ?? "") : ""), [open, value]);
  const isLong = text.length > SHOWN;
  return (
    <div className={styles.raw}>
      <div className={styles.rawHead}>
        <Button look="quiet" small aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? words.rawHide : words.raw}
        </Button>
        {open && (
          <>
            <Copy text={text} />
            <Button look="quiet" small onClick={() => save(new Blob([text], { type: "application/json" }), `${name}.json`)}>
              <DownloadIcon />
              {words.download}
            </Button>
          </>
        )}
      </div>
      {open && (
        <>
          <pre className={styles.rawText} tabIndex={0}>
            <Marked text={whole || !isLong ? text : text.slice(0, SHOWN)} lines />
          </pre>
          {isLong && !whole && (
            <Button small onClick={() => setWhole(true)}>
              {words.rawMore(bytes(new Blob([text]).size))}
            </Button>
          )}
        </>
      )}
    </div>
  );
}

import { messages } from "../../messages/en.ts";
import { Dialog } from "../../parts/Dialog.tsx";
import { CheckField } from "../../parts/Field.tsx";
import { Kbd } from "../../parts/Kbd.tsx";
import styles from "./InboxPage.module.css";

const words = messages.inbox;

const KEYS: [string[], string][] = [
  [["j", "k", "↓", "↑"], words.keys.move],
  [["Enter"], words.keys.open],
  [["a", "Enter"], words.keys.approve],
  [["r"], words.keys.reject],
  [["e"], words.keys.edit],
  [["1…9"], words.keys.choice],
  [["x"], words.keys.check],
  [["Ctrl", "Enter"], words.keys.send],
  [["/"], words.keys.search],
  [["Esc"], words.keys.back],
  [["?"], words.keys.help],
];

export interface HelpProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  wanted: boolean;
  onWanted: (wanted: boolean) => void;
}

/** The keys of the inbox, and whether this browser wants them. */
export function Help({ open, onOpenChange, wanted, onWanted }: HelpProps) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={words.shortcuts}>
      <dl className={styles.keys}>
        {KEYS.map(([keys, does]) => (
          <div key={does}>
            <dt>
              {keys.map((key) => (
                <Kbd key={key}>{key}</Kbd>
              ))}
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <p className={styles.hint}>{words.keysQuiet}</p>
      <CheckField label={words.shortcutsOn} checked={wanted} onChange={({ target }) => onWanted(target.checked)} />
    </Dialog>
  );
}

import { useEffect, useState } from "react";
import { messages } from "../messages/en.ts";
import { useAnnounce } from "./Announcer.tsx";
import { IconButton } from "./Button.tsx";
import { copy } from "./copying.ts";
import { CheckIcon, CopyIcon, CrossIcon } from "./icons.tsx";

const SHOWN_FOR = 1_500;

type Outcome = "copied" | "notCopied";

/** Copies a text, and says whether it could. */
export function Copy({ text, label = messages.actions.copy }: { text: string; label?: string }) {
  const announce = useAnnounce();
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  useEffect(() => {
    if (outcome === null) return undefined;
    const timer = setTimeout(() => setOutcome(null), SHOWN_FOR);
    return () => clearTimeout(timer);
  }, [outcome]);

  const onClick = async () => {
    const next: Outcome = (await copy(text)) ? "copied" : "notCopied";
    setOutcome(next);
    announce(messages.actions[next]);
  };
  const Icon = outcome === null ? CopyIcon : outcome === "copied" ? CheckIcon : CrossIcon;
  return (
    <IconButton small label={outcome === null ? label : messages.actions[outcome]} onClick={() => void onClick()}>
      <Icon />
    </IconButton>
  );
}

import { useEffect, useState } from "react";
import { messages } from "../messages/en.ts";
import { IconButton } from "./Button.tsx";
import { CheckIcon, CopyIcon } from "./icons.tsx";

const SHOWN_FOR = 1_500;

/** Copies a text, and says so. */
export function Copy({ text, label = messages.actions.copy }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), SHOWN_FOR);
    return () => clearTimeout(timer);
  }, [copied]);

  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return (
    <IconButton small label={copied ? messages.actions.copied : label} onClick={() => void copy()}>
      {copied ? <CheckIcon /> : <CopyIcon />}
    </IconButton>
  );
}

import type { Approval } from "@assent/client";
import type { ReactNode } from "react";
import { messages } from "../../messages/en.ts";
import { SparkIcon, PersonIcon } from "../../parts/icons.tsx";
import { Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts } from "../../parts/Panel.tsx";
import styles from "./ApprovalCard.module.css";

const words = messages.approval;

const GIVEN = ["context", "configurable", "model", "instructions"] as const;

function Words({ text }: { text: string }) {
  return (
    <div className={styles.quote}>
      <Text text={text} bare />
    </div>
  );
}

/** Whether anything was said that led to this. */
export function hasSaid(approval: Approval): boolean {
  return Object.keys(approval.conversation).length > 0;
}

/**
 * The words that led to it, apart from what will be done: those of the person who asked, those of
 * the model, and what the run was given.
 */
export function Said({ approval }: { approval: Approval }) {
  const { asked, model_wrote: wrote } = approval.conversation;
  const given: [string, ReactNode][] = [];
  for (const name of GIVEN) {
    const text = approval.conversation[name];
    if (text) given.push([words.context[name], <Text key={name} text={text} bare />]);
  }
  const person = approval.requested_by[0] ?? words.somebody;
  return (
    <div className={styles.said}>
      {asked && (
        <figure className={styles.saying}>
          <figcaption className={styles.speaker}>
            <PersonIcon />
            <Marked text={words.person(person)} />
          </figcaption>
          <Words text={asked} />
        </figure>
      )}
      {wrote && (
        <figure className={styles.modelSaying}>
          <figcaption className={styles.speaker}>
            <SparkIcon />
            {words.model}
            <span className={styles.hint}>{words.modelHint}</span>
          </figcaption>
          <Words text={wrote} />
        </figure>
      )}
      {given.length > 0 && <Facts of={given} />}
    </div>
  );
}

/** What can be done about an approval beside deciding it. */

import type { ApprovalForYou } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { apiUrl, assent } from "../../assent.ts";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button, IconButton } from "../../parts/Button.tsx";
import { Dialog } from "../../parts/Dialog.tsx";
import { copy } from "../../parts/copying.ts";
import { Menu, type MenuItem } from "../../parts/Menu.tsx";
import { TextArea, TextField } from "../../parts/Field.tsx";
import { MoreIcon } from "../../parts/icons.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Notice } from "../../parts/states.tsx";
import styles from "./ApprovalCard.module.css";
import { useDraft } from "./desk.ts";

const words = messages.approval;
const Granting = lazy(() => import("./Granting.tsx"));

type Shown = "comment" | "delegate" | "grant" | null;

/** Does something about the approval, says so, and has it read anew. */
export function useDoing(approvalId: string, onDone?: () => void) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [, change] = useDraft(approvalId);
  return useMutation({
    mutationFn: async ({ work, told }: { work: () => Promise<unknown>; told: string | null }) => {
      await work();
      return told;
    },
    onSuccess: (told) => {
      if (told !== null) {
        change({ told, now: null });
        announce(told);
      }
      onDone?.();
      void queries.invalidateQueries({ queryKey: ["approvals"] });
    },
  });
}

export interface MoreProps {
  approval: ApprovalForYou;
  onRespond: () => void;
}

export function More({ approval, onRespond }: MoreProps) {
  const me = useMe();
  const announce = useAnnounce();
  const [, change] = useDraft(approval.approval_id);
  const [shown, setShown] = useState<Shown>(null);
  const id = approval.approval_id;
  const doing = useDoing(id);
  const { menu } = words;

  const voted = approval.votes.some((vote) => vote.by === me.name);
  const handed = approval.delegations.some(({ voting_right: right }) => right === me.name);
  const may = approval.yours.may;
  const at = (work: () => Promise<unknown>, told: string) =>
    doing.mutate({ work, told }, { onError: (refusal) => change({ refusal }) });

  const items: MenuItem[] = [];
  if (may.includes("respond") && approval.kind === "tool") {
    items.push({ label: words.decisions.respond, onSelect: onRespond });
  }
  items.push({ label: menu.comment, onSelect: () => setShown("comment") });
  if (voted) {
    items.push({ label: menu.withdraw, onSelect: () => at(() => assent.approvals.withdraw(id), words.withdrawn) });
  }
  if (handed) {
    items.push({
      label: menu.takeBack,
      onSelect: () => at(() => assent.approvals.delegate(id, { to: me.name }), words.takenBack),
    });
  } else if (may.length > 0) {
    items.push({ label: menu.delegate, onSelect: () => setShown("delegate") });
  }
  if (approval.kind === "tool" && may.includes("approve")) {
    items.push({ label: menu.grant, onSelect: () => setShown("grant") });
  }
  const copyLink = async () => {
    const link = `${apiUrl}/ui/approvals/${encodeURIComponent(id)}`;
    const told = (await copy(link)) ? menu.linkCopied : menu.linkNotCopied(link);
    change({ told });
    announce(told);
  };
  items.push({ label: menu.link, onSelect: () => void copyLink() });
  const close = () => setShown(null);
  return (
    <>
      <Menu
        label={words.decisions.more}
        items={items}
        trigger={
          <IconButton label={words.decisions.more} look="quiet">
            <MoreIcon />
          </IconButton>
        }
      />
      {shown === "comment" && <Commenting approval={approval} onClose={close} />}
      {shown === "delegate" && <Delegating approval={approval} onClose={close} />}
      <Suspense>{shown === "grant" && <Granting approval={approval} onClose={close} />}</Suspense>
    </>
  );
}

export interface AboutProps {
  approval: ApprovalForYou;
  onClose: () => void;
}

interface AskingProps {
  title: string;
  verb: string;
  hint: string;
  busy: boolean;
  error: unknown;
  disabled?: boolean;
  onClose: () => void;
  onDo: () => void;
  children: ReactNode;
}

/** A dialog that asks for what something needs, and says why it was refused. */
export function Asking({ title, verb, hint, busy, error, disabled, onClose, onDo, children }: AskingProps) {
  return (
    <Dialog
      open
      onOpenChange={onClose}
      title={title}
      actions={
        <>
          <Button onClick={onClose}>{messages.actions.cancel}</Button>
          <Button look="primary" busy={busy} disabled={disabled ?? false} onClick={onDo}>
            {verb}
          </Button>
        </>
      }
    >
      <div className={styles.form}>
        <p className={styles.hint}>{hint}</p>
        {children}
        {error !== null && (
          <Notice tone="bad" urgent>
            {sentenceOf(error)}
          </Notice>
        )}
      </div>
    </Dialog>
  );
}

function Commenting({ approval, onClose }: AboutProps) {
  const [text, setText] = useState("");
  const doing = useDoing(approval.approval_id, onClose);
  const work = () => assent.approvals.comment(approval.approval_id, text.trim());
  const { comment } = words;
  return (
    <Asking
      title={comment.title}
      verb={comment.verb}
      hint={comment.hint}
      busy={doing.isPending}
      error={doing.error}
      disabled={text.trim() === ""}
      onClose={onClose}
      onDo={() => doing.mutate({ work, told: null })}
    >
      <TextArea label={comment.label} rows={4} value={text} onChange={(event) => setText(event.target.value)} />
    </Asking>
  );
}

function Delegating({ approval, onClose }: AboutProps) {
  const [kind, setKind] = useState<"person" | "role">("person");
  const [name, setName] = useState("");
  const doing = useDoing(approval.approval_id, onClose);
  const { delegate } = words;
  const to = name.trim();
  const work = () =>
    assent.approvals.delegate(approval.approval_id, kind === "person" ? { to } : { role: to });
  return (
    <Asking
      title={delegate.title}
      verb={delegate.verb}
      hint={delegate.hint}
      busy={doing.isPending}
      error={doing.error}
      disabled={to === ""}
      onClose={onClose}
      onDo={() => doing.mutate({ work, told: delegate.done(kind === "person" ? to : words.anyoneWith(to)) })}
    >
      <Segmented
        label={delegate.to}
        value={kind}
        options={[
          { value: "person", label: delegate.person },
          { value: "role", label: delegate.role },
        ]}
        onChange={setKind}
      />
      <TextField
        label={kind === "person" ? delegate.name : delegate.roleName}
        value={name}
        autoComplete="off"
        onChange={(event) => setName(event.target.value)}
      />
    </Asking>
  );
}

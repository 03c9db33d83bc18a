import { TooManyRequests } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { apiUrl, assent } from "../../assent.ts";
import { useTitle } from "../../layout/Page.tsx";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { TextField } from "../../parts/Field.tsx";
import { ArrowOutIcon, CheckIcon } from "../../parts/icons.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { duration, serverNow } from "../../parts/times.ts";
import styles from "./SignIn.module.css";

const words = messages.signIn;

/** How long to wait if the server has not said it: milliseconds. */
const PAUSE = 10_000;

export interface SignInProps {
  /** It stands over a page, which has a title already. */
  inDialog?: boolean;
  /** The person of this name is here now. */
  onSignedIn: (name: string) => void;
}

/**
 * Exchanges a key for a session of this browser, or leads to an identity provider. The key is
 * nowhere but in its field, and in the request.
 */
export default function SignIn({ inDialog, onSignedIn }: SignInProps) {
  const issuers = useIssuers();
  if (inDialog) {
    return (
      <div className={styles.ways}>
        <KeyForm inDialog onSignedIn={onSignedIn} />
        <Providers names={issuers} inDialog />
        <ElsewhereAgain onSignedIn={onSignedIn} />
      </div>
    );
  }
  return <Whole issuers={issuers} onSignedIn={onSignedIn} />;
}

function Whole({ issuers, onSignedIn }: { issuers: readonly string[]; onSignedIn: (name: string) => void }) {
  useTitle(messages.actions.signIn);
  return (
    <main className={styles.whole}>
      <div className={styles.card}>
        <div className={styles.head}>
          <span className={styles.seal} aria-hidden="true">
            <CheckIcon />
          </span>
          <h1 className={styles.title}>{words.title}</h1>
          <p className={styles.sub}>{words.sub}</p>
        </div>
        <div className={styles.ways}>
          <Providers names={issuers} />
          {issuers.length > 0 && <p className={styles.or}>{words.or}</p>}
          <KeyForm onSignedIn={onSignedIn} />
        </div>
      </div>
    </main>
  );
}

/** The identity providers, none as long as nobody has said that there are some. */
function useIssuers(): readonly string[] {
  const { data } = useQuery({ queryKey: ["issuers"], queryFn: () => assent.issuers(), staleTime: Infinity });
  return data ?? [];
}

// ── with a key ───────────────────────────────────────────────────────────────────────────────────

function KeyForm({ inDialog, onSignedIn }: SignInProps) {
  const [key, setKey] = useState("");
  const [isShown, setIsShown] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [until, setUntil] = useState<number | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const left = useSecondsLeft(until, () => {
    setUntil(null);
    setError(null);
  });

  const refuse = (problem: unknown) => {
    const isTooMany = problem instanceof TooManyRequests;
    if (isTooMany) setUntil(serverNow() + (problem.retryAfter ?? PAUSE));
    setError(isTooMany ? words.tooMany : sentenceOf(problem));
    field.current?.focus();
    field.current?.select();
  };

  const enter = async (event: FormEvent) => {
    event.preventDefault();
    if (isBusy || left !== null) return;
    const given = key.trim();
    if (given === "") {
      setError(words.empty);
      field.current?.focus();
      return;
    }
    setIsBusy(true);
    try {
      const { name } = await assent.signIn(given);
      setKey("");
      onSignedIn(name);
    } catch (problem) {
      refuse(problem);
    } finally {
      setIsBusy(false);
    }
  };

  const said = left === null ? error : `${error ?? words.tooMany} ${words.again(duration(left * 1000))}`;
  return (
    <form className={styles.form} onSubmit={(event) => void enter(event)} noValidate>
      {/* What a password manager keeps the key under. */}
      <input type="text" name="username" autoComplete="username" value={messages.name} readOnly hidden />
      <div className={styles.key}>
        <TextField
          ref={field}
          label={words.key}
          name="key"
          type={isShown ? "text" : "password"}
          autoComplete="current-password"
          autoCapitalize="none"
          autoCorrect="off"
          spellCheck={false}
          autoFocus
          code
          required
          value={key}
          error={said}
          hint={inDialog ? undefined : words.keyHint}
          onChange={(event) => {
            setKey(event.target.value);
            if (left === null) setError(null);
          }}
        />
        <Button small look="quiet" className={styles.show} aria-pressed={isShown} onClick={() => setIsShown(!isShown)}>
          {isShown ? words.hide : words.show}
        </Button>
      </div>
      {/* It stays a control while the answer comes, so that it keeps the keyboard. */}
      <Button type="submit" look="primary" wide aria-busy={isBusy || undefined} aria-disabled={left !== null || undefined}>
        {isBusy ? words.busy : messages.actions.signIn}
      </Button>
    </form>
  );
}

/** The whole seconds until that time of the server, null without one; `onOver` when it has come. */
function useSecondsLeft(until: number | null, onOver: () => void): number | null {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    if (until === null) return undefined;
    setNow(serverNow());
    const timer = setInterval(() => {
      setNow(serverNow());
      if (serverNow() >= until) onOver();
    }, 1000);
    return () => clearInterval(timer);
    // What is done then is the same each time.
  }, [until]);
  return until === null ? null : Math.max(1, Math.ceil((until - now) / 1000));
}

// ── at an identity provider ──────────────────────────────────────────────────────────────────────

/** The address that leads to a provider, and from there back to the page that is shown now. */
function loginAt(issuer: string): string {
  const next = `${location.pathname}${location.search}${location.hash}`;
  return `${apiUrl}/session/login?${new URLSearchParams({ issuer, next })}`;
}

function Providers({ names, inDialog }: { names: readonly string[]; inDialog?: boolean }) {
  if (names.length === 0) return null;
  return (
    <div className={styles.providers}>
      {names.map((name) => (
        // From a dialog in another tab: this one has what was written.
        <a
          key={name}
          className={styles.provider}
          href={loginAt(name)}
          {...(inDialog ? { target: "_blank", rel: "noopener" } : {})}
        >
          {words.with(name)}
          {inDialog && <ArrowOutIcon />}
        </a>
      ))}
      {inDialog && <p className={styles.hint}>{words.otherTab}</p>}
    </div>
  );
}

/** Looks whether somebody has signed in in another tab, each time that this one is shown. */
function ElsewhereAgain({ onSignedIn }: { onSignedIn: (name: string) => void }) {
  useEffect(() => {
    const look = () => {
      if (document.visibilityState !== "visible") return;
      assent.me().then(
        ({ name }) => onSignedIn(name),
        // Nobody has, or it cannot be known now: the next look will tell.
        () => undefined,
      );
    };
    document.addEventListener("visibilitychange", look);
    window.addEventListener("focus", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("focus", look);
    };
  }, [onSignedIn]);
  return null;
}

import { type FormEvent, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { TextField } from "../../parts/Field.tsx";
import { sentenceOf } from "../../parts/problems.ts";

export interface SignInProps {
  /** It stands over a page, which has a title already. */
  inDialog?: boolean;
  onSignedIn: () => void;
}

/** Exchanges a key for a session of this browser. */
export default function SignIn({ inDialog, onSignedIn }: SignInProps) {
  const [key, setKey] = useState("");
  const [error, setError] = useState<string | null>(null);
  const enter = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await assent.signIn(key);
      onSignedIn();
    } catch (problem) {
      setError(sentenceOf(problem));
    }
  };
  return (
    <form onSubmit={(event) => void enter(event)}>
      {!inDialog && <h1>{messages.actions.signIn}</h1>}
      <TextField label="Key" type="password" value={key} error={error} onChange={(event) => setKey(event.target.value)} />
      <Button type="submit" look="primary">
        {messages.actions.signIn}
      </Button>
    </form>
  );
}

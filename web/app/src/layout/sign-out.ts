/** The way out of this browser's session. */

import { Unauthorized } from "@assent/client";
import { useState } from "react";
import { assent, pagePath } from "../assent.ts";
import { sentenceOf } from "../parts/problems.ts";
import { forgetKept, tellOthers } from "./person.ts";

/**
 * Ends the session and leaves the page, in all tabs, so that nothing is left in this browser: for the
 * identity provider's own page to sign out, or for the sign-in. `error` says why it is not ended.
 */
export function useSignOut(): { leave: () => void; isLeaving: boolean; error: string | null } {
  const [isLeaving, setIsLeaving] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const leave = async () => {
    setIsLeaving(true);
    setError(null);
    try {
      const there = await assent.signOut();
      forgetKept();
      tellOthers(null);
      location.assign(there ?? `${pagePath}/`);
    } catch (problem) {
      const isOver = problem instanceof Unauthorized;
      if (isOver) {
        forgetKept();
        location.assign(`${pagePath}/`);
      } else setError(sentenceOf(problem));
      setIsLeaving(false);
    }
  };
  return { leave: () => void leave(), isLeaving, error };
}

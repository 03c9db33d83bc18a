import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Problem } from "@assent/client";
import { createContext, lazy, type ReactNode, Suspense, useContext, useEffect, useState } from "react";
import { assent, onSignedOut } from "../assent.ts";
import { messages } from "../messages/en.ts";
import { Dialog } from "../parts/Dialog.tsx";
import { ErrorState, Loading } from "../parts/states.tsx";

import { keepFor, tellOthers, watchPerson } from "./person.ts";
import styles from "./SessionGate.module.css";

const SignIn = lazy(() => import("../pages/sign-in/SignIn.tsx"));

/** Who is here, as `GET /me` says. */
export type Me = Awaited<ReturnType<typeof assent.me>>;

const Here = createContext<Me | null>(null);
const SignIns = createContext(0);

/** Who is here. Only within the gate. */
export function useMe(): Me {
  const me = useContext(Here);
  if (me === null) throw new Error("useMe() was called outside of the gate that knows who is here.");
  return me;
}

/**
 * How often somebody has signed in over the page. What the server ends with a session, such as a
 * stream, is begun anew when it changes.
 */
export function useSignIns(): number {
  return useContext(SignIns);
}

const isUnknown = (error: unknown) => error instanceof Problem && error.status === 401;

/**
 * Lets in who the server knows. Who is not known yet sees the sign-in alone; if that ends while
 * they are here, they sign in over the page, which keeps what they wrote.
 */
export function SessionGate({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const [isOver, setIsOver] = useState(false);
  const [signIns, setSignIns] = useState(0);
  const me = useQuery({
    queryKey: ["me"],
    queryFn: async () => {
      const here = await assent.me();
      // Before any page reads what was written.
      keepFor(here.name);
      return here;
    },
    staleTime: Infinity,
  });
  const isHere = me.data !== undefined;

  useEffect(() => onSignedOut(() => setIsOver(true)), []);

  const name = me.data?.name;
  useEffect(() => {
    if (name === undefined) return undefined;
    tellOthers(name);
    // Whoever decides here would do it as that person, under what this one was shown.
    return watchPerson(name, () => location.reload());
  }, [name]);

  const onSignedIn = (signedIn: string) => {
    // What stands there, and what was written, is another person's.
    if (me.data !== undefined && me.data.name !== signedIn) return location.reload();
    setIsOver(false);
    setSignIns((before) => before + 1);
    void queries.invalidateQueries();
  };

  if (!isHere) {
    if (me.isPending) return <Loading />;
    if (!isUnknown(me.error)) return <ErrorState error={me.error} retry={() => void me.refetch()} />;
    return (
      <Suspense fallback={<Loading />}>
        <SignIn onSignedIn={onSignedIn} />
      </Suspense>
    );
  }
  return (
    <Here.Provider value={me.data}>
      <SignIns.Provider value={signIns}>{children}</SignIns.Provider>
      <Dialog open={isOver} onOpenChange={setIsOver} title={messages.session.over}>
        <div className={styles.over}>
          <p>{messages.session.overHint}</p>
          <Suspense fallback={<Loading lines={2} />}>
            <SignIn inDialog onSignedIn={onSignedIn} />
          </Suspense>
        </div>
      </Dialog>
    </Here.Provider>
  );
}

import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";

type Announce = (sentence: string) => void;

const Announcing = createContext<Announce>(() => undefined);

/** Says a sentence to who listens to the page: what happened that only eyes would see. */
export function useAnnounce(): Announce {
  return useContext(Announcing);
}

/** Holds the one place from which sentences are read aloud. */
export function Announcer({ children }: { children: ReactNode }) {
  const [said, setSaid] = useState({ sentence: "", count: 0 });
  const announce = useCallback<Announce>(
    (sentence) => setSaid((before) => ({ sentence, count: before.count + 1 })),
    [],
  );
  const line = useMemo(() => <span key={said.count}>{said.sentence}</span>, [said]);
  return (
    <Announcing.Provider value={announce}>
      {children}
      <div className="sr-only" role="status" aria-live="polite">
        {line}
      </div>
    </Announcing.Provider>
  );
}

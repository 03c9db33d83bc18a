import { createContext, type ReactNode, useCallback, useContext, useState } from "react";

type Announce = (sentence: string) => void;

interface Said {
  readonly sentence: string;
  readonly count: number;
}

const Announcing = createContext<Announce>(() => undefined);
const Announced = createContext<Said>({ sentence: "", count: 0 });

/** Says a sentence to who listens to the page: what happened that only eyes would see. */
export function useAnnounce(): Announce {
  return useContext(Announcing);
}

/** Where sentences are read aloud that are said from now on. A dialog has one of its own, since the
 * page below it is inert. */
export function Saying() {
  const { sentence, count } = useContext(Announced);
  const [before] = useState(count);
  return (
    <div className="sr-only" role="status" aria-live="polite">
      {count > before && <span key={count}>{sentence}</span>}
    </div>
  );
}

/** Holds what is said, and reads it aloud. */
export function Announcer({ children }: { children: ReactNode }) {
  const [said, setSaid] = useState<Said>({ sentence: "", count: 0 });
  const announce = useCallback<Announce>(
    (sentence) => setSaid((before) => ({ sentence, count: before.count + 1 })),
    [],
  );
  return (
    <Announcing.Provider value={announce}>
      <Announced.Provider value={said}>
        {children}
        <Saying />
      </Announced.Provider>
    </Announcing.Provider>
  );
}

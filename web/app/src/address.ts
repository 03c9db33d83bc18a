/** What of a page is in its address, so that it can be sent to somebody and survives a reload. */

import { useSearchParams } from "wouter";

/** The parameters of the address, and how to change some of them: what is null or empty goes. The
 * address that was there before is not gone back to. */
export function useAddress(): [URLSearchParams, (changes: Readonly<Record<string, string | null>>) => void] {
  const [search, setSearch] = useSearchParams();
  const change = (changes: Readonly<Record<string, string | null>>) =>
    setSearch(
      (before) => {
        const after = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value) after.set(name, value);
          else after.delete(name);
        }
        return after;
      },
      { replace: true },
    );
  return [search, change];
}

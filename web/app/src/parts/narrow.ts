/** Whether there is only the room of a phone, where a list reads better than a picture. */
export function isNarrow(): boolean {
  return matchMedia("(max-width: 47.99rem)").matches;
}

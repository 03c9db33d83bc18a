/** The word for a value of the server; the value itself if a newer server has one without a word. */
export function wordOf(words: Record<string, string>, value: string): string {
  return words[value] ?? value;
}

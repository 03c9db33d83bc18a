export class Problem extends Error { status = 0 }
export class Assent {
  url: string; f: typeof fetch;
  constructor(o: { url: string; fetch: (i: RequestInfo | URL, n?: RequestInit) => Promise<Response> }) { this.url = o.url; this.f = o.fetch; }
  async me(): Promise<{ name: string; rights: string[]; authentication: string }> { return (await this.f(this.url + "/me")).json(); }
  async signIn(_key: string) {}
  async signOut() {}
  approvals = { list: async (_q: object): Promise<{ approvals: unknown[] }> => (await this.f(this.url + "/approvals?status=pending")).json() };
  async *follow(_o: { approvals: true; share: true; signal: AbortSignal; onLink: (s: string) => void }) { yield* [] as unknown[]; }
}
export interface Segment { text: string; kind: "plain" | "unseen" | "alike"; label: string; name: string }
export function visible(text: string): Segment[] { return [{ text, kind: "plain", label: "", name: "" }]; }

/** Lists that the server gives page by page. */

/** A part of a list. `next` is the cursor of the next part, null at the end. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | null;
}

/**
 * A list of the server. Awaited it is its first page, or the one at the `cursor`; iterated it is
 * all items, page by page.
 *
 *     const page = await assent.threads.list({ limit: 20 });
 *     for await (const thread of assent.threads.list()) …
 */
export class Listing<T> implements Promise<Page<T>>, AsyncIterable<T> {
  readonly [Symbol.toStringTag] = "Listing";
  readonly #pageAt: (cursor: string | undefined) => Promise<Page<T>>;
  readonly #cursor: string | undefined;
  #page: Promise<Page<T>> | null = null;

  constructor(
    pageAt: (cursor: string | undefined) => Promise<Page<T>>,
    cursor: string | null | undefined,
  ) {
    this.#pageAt = pageAt;
    this.#cursor = cursor ?? undefined;
  }

  then<A = Page<T>, B = never>(
    done?: ((page: Page<T>) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    // It is asked for once somebody awaits it, so that one that is iterated has no page too many.
    this.#page ??= this.#pageAt(this.#cursor);
    return this.#page.then(done, failed);
  }

  catch<B = never>(failed?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<Page<T> | B> {
    return this.then(undefined, failed);
  }

  finally(end?: (() => void) | null): Promise<Page<T>> {
    return this.then().finally(end);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    let cursor = this.#cursor;
    for (;;) {
      const page = await this.#pageAt(cursor);
      yield* page.items;
      if (page.next === null) return;
      cursor = page.next;
    }
  }

  /** All items, or the first `most` of them. */
  async all(most = Number.POSITIVE_INFINITY): Promise<T[]> {
    const found: T[] = [];
    for await (const item of this) {
      if (found.length >= most) break;
      found.push(item);
    }
    return found;
  }
}

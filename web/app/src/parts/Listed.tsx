import type { Page } from "@assent/client";
import { keepPreviousData, type QueryKey, useInfiniteQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { messages } from "../messages/en.ts";
import { Button } from "./Button.tsx";
import styles from "./Listed.module.css";
import { ErrorState, Loading, Stale } from "./states.tsx";

/** A list of the server, as far as it was read. */
export interface Pages<T> {
  items: readonly T[] | undefined;
  error: unknown;
  hasMore: boolean;
  isLoadingMore: boolean;
  /** What is shown is of other filters: the answer to these is on its way. */
  isOld: boolean;
  loadMore: () => void;
  retry: () => void;
}

interface Refreshing<T> {
  /** After how many milliseconds it is read anew, from what was read. */
  every?: (items: readonly T[]) => number | false;
}

/** Reads a list of the server page by page; `pageAt` asks for the page at a cursor. */
export function usePages<T>(
  key: QueryKey,
  pageAt: (cursor: string | undefined) => PromiseLike<Page<T>>,
  { every }: Refreshing<T> = {},
): Pages<T> {
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: async ({ pageParam }) => pageAt(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: ({ state }) => every?.(state.data?.pages.flatMap((page) => page.items) ?? []) ?? false,
  });
  return {
    items: query.data?.pages.flatMap((page) => page.items),
    error: query.error,
    hasMore: query.hasNextPage,
    isLoadingMore: query.isFetchingNextPage,
    isOld: query.isPlaceholderData,
    loadMore: () => void query.fetchNextPage(),
    retry: () => void query.refetch(),
  };
}

export interface ListedProps<T> {
  pages: Pages<T>;
  /** What stands there if the list has nothing. */
  empty: ReactNode;
  children: (items: readonly T[]) => ReactNode;
}

/** A list with what may stand in its place: that it comes, is empty, is refused, or failed. */
export function Listed<T>({ pages, empty, children }: ListedProps<T>) {
  const { items, error, retry } = pages;
  if (items === undefined) {
    if (error) return <ErrorState error={error} retry={retry} />;
    return <Loading />;
  }
  return (
    <>
      {error ? <Stale error={error} retry={retry} /> : null}
      <div className={styles.list} aria-busy={pages.isOld || undefined}>
        {items.length === 0 ? empty : children(items)}
      </div>
      {pages.hasMore && (
        <div className={styles.more}>
          <Button busy={pages.isLoadingMore} onClick={pages.loadMore}>
            {messages.actions.loadMore}
          </Button>
        </div>
      )}
    </>
  );
}

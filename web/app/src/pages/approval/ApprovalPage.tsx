import { NotFound } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "wouter";
import { assent } from "../../assent.ts";
import { useTitle } from "../../layout/Page.tsx";
import { messages } from "../../messages/en.ts";
import { ButtonLink } from "../../parts/Button.tsx";
import { InboxIcon } from "../../parts/icons.tsx";
import { Empty, ErrorState, Loading, Stale } from "../../parts/states.tsx";
import { ApprovalCard } from "./ApprovalCard.tsx";
import styles from "./ApprovalPage.module.css";
import { titleOf } from "./question.ts";

const words = messages.approval.page;

/** One approval by itself, as links lead to it: made for a phone first. */
export default function ApprovalPage() {
  const { id = "" } = useParams<{ id: string }>();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["approvals", "one", id],
    queryFn: () => assent.approvals.get(id),
  });
  useTitle(data === undefined ? words.title : titleOf(data));
  const toInbox = <ButtonLink to="/inbox">{words.toInbox}</ButtonLink>;

  if (isPending) return <Loading />;
  if (data === undefined) {
    if (error instanceof NotFound) {
      return (
        <Empty level={1} icon={<InboxIcon />} title={words.notFound} actions={toInbox}>
          {words.notFoundHint}
        </Empty>
      );
    }
    return <ErrorState error={error} retry={() => void refetch()} actions={toInbox} />;
  }
  return (
    <div className={styles.page}>
      {error !== null && (
        <Stale error={error} retry={() => void refetch()} />
      )}
      <ApprovalCard key={id} approval={data} level={1} />
      {data.status !== "pending" && <div className={styles.next}>{toInbox}</div>}
    </div>
  );
}

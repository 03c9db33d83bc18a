import { Page } from "../../layout/Page.tsx";

export default function InboxPage() {
  return <Page title="Inbox">…</Page>;
}

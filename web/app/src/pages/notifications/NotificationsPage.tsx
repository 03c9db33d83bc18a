import { Page } from "../../layout/Page.tsx";

export default function NotificationsPage() {
  return <Page title="Notifications">…</Page>;
}

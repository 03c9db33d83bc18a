import { Page } from "../../layout/Page.tsx";

export default function AuditPage() {
  return <Page title="Audit">…</Page>;
}

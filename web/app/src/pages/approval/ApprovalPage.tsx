import { Page } from "../../layout/Page.tsx";

export default function ApprovalPage() {
  return <Page title="Approval">…</Page>;
}

import { Page } from "../../layout/Page.tsx";

export default function AgentsPage() {
  return <Page title="Agents">…</Page>;
}

import { Page } from "../../layout/Page.tsx";

export default function RunsPage() {
  return <Page title="Runs">…</Page>;
}

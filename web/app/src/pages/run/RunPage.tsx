import { Page } from "../../layout/Page.tsx";

export default function RunPage() {
  return <Page title="Run">…</Page>;
}

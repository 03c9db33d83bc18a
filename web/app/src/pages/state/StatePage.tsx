import { Page } from "../../layout/Page.tsx";

export default function StatePage() {
  return <Page title="State">…</Page>;
}

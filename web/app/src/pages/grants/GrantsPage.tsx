import { Page } from "../../layout/Page.tsx";

export default function GrantsPage() {
  return <Page title="Grants">…</Page>;
}

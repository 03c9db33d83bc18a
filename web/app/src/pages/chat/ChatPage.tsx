import { Page } from "../../layout/Page.tsx";

export default function ChatPage() {
  return <Page title="Chat">…</Page>;
}

import { Page } from "../../layout/Page.tsx";

export default function SchedulesPage() {
  return <Page title="Schedules">…</Page>;
}

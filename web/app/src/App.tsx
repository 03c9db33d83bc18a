import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { Component, lazy, type ReactNode, Suspense, useState } from "react";
import { Redirect, Route, Router, Switch } from "wouter";
import { pagePath } from "./assent.ts";
import { Layout } from "./layout/Layout.tsx";
import { useTitle } from "./layout/Page.tsx";
import { SessionGate } from "./layout/SessionGate.tsx";
import { LiveApprovals } from "./live.tsx";
import { messages } from "./messages/en.ts";
import { Announcer } from "./parts/Announcer.tsx";
import { Button } from "./parts/Button.tsx";
import { Empty, Loading } from "./parts/states.tsx";

const ChatPage = lazy(() => import("./pages/chat/ChatPage.tsx"));
const InboxPage = lazy(() => import("./pages/inbox/InboxPage.tsx"));
const ApprovalPage = lazy(() => import("./pages/approval/ApprovalPage.tsx"));
const RunsPage = lazy(() => import("./pages/runs/RunsPage.tsx"));
const RunPage = lazy(() => import("./pages/run/RunPage.tsx"));
const StatePage = lazy(() => import("./pages/state/StatePage.tsx"));
const AgentsPage = lazy(() => import("./pages/agents/AgentsPage.tsx"));
const SchedulesPage = lazy(() => import("./pages/schedules/SchedulesPage.tsx"));
const GrantsPage = lazy(() => import("./pages/grants/GrantsPage.tsx"));
const AuditPage = lazy(() => import("./pages/audit/AuditPage.tsx"));
const NotificationsPage = lazy(() => import("./pages/notifications/NotificationsPage.tsx"));

function newQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      // What changes is told by the feeds; this is for what they miss while the page was away.
      queries: { retry: false, staleTime: 10_000, refetchOnWindowFocus: true },
      mutations: { retry: false },
    },
  });
}

/** Shows that a page failed in place of the page, and leaves the way to the others open. */
class Shelter extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <Empty
        title={messages.states.crashed}
        actions={<Button onClick={() => location.reload()}>{messages.states.reload}</Button>}
      >
        {messages.states.crashedHint}
      </Empty>
    );
  }
}

function NotFound() {
  useTitle(messages.states.notFound);
  return (
    <Empty level={1} title={messages.states.notFound}>
      {messages.states.notFoundHint}
    </Empty>
  );
}

function Pages() {
  return (
    <Switch>
      <Route path="/">
        <Redirect to="/chat" replace />
      </Route>
      <Route path="/chat/:thread?" component={ChatPage} />
      <Route path="/inbox" component={InboxPage} />
      <Route path="/approvals/:id" component={ApprovalPage} />
      <Route path="/runs" component={RunsPage} />
      <Route path="/runs/:id" component={RunPage} />
      <Route path="/threads/:id/state" component={StatePage} />
      <Route path="/agents/:name?" component={AgentsPage} />
      <Route path="/schedules" component={SchedulesPage} />
      <Route path="/grants" component={GrantsPage} />
      <Route path="/audit" component={AuditPage} />
      <Route path="/notifications" component={NotificationsPage} />
      <Route component={NotFound} />
    </Switch>
  );
}

export function App() {
  const [queries] = useState(newQueries);
  return (
    <QueryClientProvider client={queries}>
      <Router base={pagePath}>
        <Announcer>
          <SessionGate>
            <LiveApprovals>
              <Layout>
                <Shelter>
                  <Suspense fallback={<Loading />}>
                    <Pages />
                  </Suspense>
                </Shelter>
              </Layout>
            </LiveApprovals>
          </SessionGate>
        </Announcer>
      </Router>
    </QueryClientProvider>
  );
}

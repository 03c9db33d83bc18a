"""AG-UI: runs for its clients."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.agui_runs import AgUiRequest, Asking
from assent.api.answers import refuses, streams_frames
from assent.api.deps import Admitted, TheActor, TheRunsBy
from assent.api.routing import router_of
from assent.core.access import Right

router = router_of("agui")


@router.post("/agui/{agent_id}")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"), deciding=True)
@streams_frames
@refuses(404, 410)
async def run(
    agent_id: str,
    body: AgUiRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    admitted: Admitted,
) -> Response:
    """A run of AG-UI 1.0 on a thread: new messages for the agent, or with `resume` an answer to
    each open interrupt. Without either it shows the thread as it is, and what it asks.

    The same request again gets the same run. A client that closes the connection stops its run.
    """
    asking = Asking(request=request, assistant_id=agent_id, body=body, by=by, runs_by=runs_by)
    return await asking.response()

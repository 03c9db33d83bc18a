"""Programs that start a `HumanInputServer`, each to be a process: `BEFORE_SERVING` names one, and
PORT the port. They print what they see, one JSON value a line, and are over when they are
interrupted."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from langgraph.checkpoint.memory import InMemorySaver

from assent import HumanInputServer, Respond, ask_human, build_hitl_agent
from assent.cli.human_input_server import EXIT_SECONDS
from assent.core.events import event_type
from tests.support.models import ScriptedModel, call, say

KEY = "api-key"
THREAD = "program"

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def beside() -> NoReturn:
    """Runs an agent itself, with the server in a thread beside it."""
    gc.unfreeze()
    before = of_process()
    server = HumanInputServer(port=int(os.environ["PORT"]), api_key=KEY)
    server_thread = threading.Thread(target=server.start, daemon=True)
    server_thread.start()
    agent = build_hitl_agent(
        ScriptedModel(script=[call("ask_human", prompt="Which one?"), say("Done.")]),
        [ask_human],
        approve=[],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": THREAD}}
    told = [*server.stream(agent, {"messages": [("user", "Hi")]}, config)]
    tell([event_type(event) for event in told])
    told = [*server.stream(agent, Respond("The old one."), config)]
    tell([event_type(event) for event in told])
    tell(of_process() == before)
    until_interrupted()


def forking() -> NoReturn:
    """Forks with the server in a thread. The other process shows nothing, and ends as programs
    do."""
    server = HumanInputServer(port=int(os.environ["PORT"]))
    threading.Thread(target=server.start, daemon=True).start()
    server.ready()
    process = os.fork()
    if process == 0:
        model, saver = ScriptedModel(script=[say("Done.")]), InMemorySaver()
        agent = build_hitl_agent(model, [], approve=[], checkpointer=saver)
        config: Any = {"configurable": {"thread_id": THREAD}}
        list(server.stream(agent, {"messages": [("user", "Hi")]}, config))
        sys.exit()
    began = time.monotonic()
    os.waitpid(process, 0)
    tell(time.monotonic() - began < EXIT_SECONDS)
    until_interrupted()


def alone() -> NoReturn:
    """Starts the server in its main thread."""
    server = HumanInputServer(port=int(os.environ["PORT"]))
    server.start()
    tell("ended")
    sys.exit()


def of_process() -> Any:
    """What is the process's, and no server's in it."""
    loggers = [logging.getLogger(name) for name in (None, "uvicorn.access", "uvicorn.error")]
    return (
        [(each.level, each.handlers[:], each.propagate) for each in loggers],
        [signal.getsignal(each) for each in SIGNALS],
        gc.get_threshold(),
        gc.get_freeze_count(),
        sys.excepthook,
    )


def until_interrupted() -> NoReturn:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        tell("interrupted")
    sys.exit()


def tell(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()

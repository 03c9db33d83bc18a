"""What LangGraph's clients send: answers to what a thread waits for."""

from __future__ import annotations

from collections.abc import Sequence

from assent.api.dialects.questions import pause_id, without_interrupt
from assent.core.approval import Approval
from assent.core.config_keys import is_own_key, is_trace_key
from assent.core.errors import InvalidDecision
from assent.core.json import Json, JsonObject

RESUME_MAP = "__pregel_resume_map"
"""The key in the config of a graph that goes on by which its nodes have the answers."""


def without_own(config: Json) -> tuple[JsonObject | None, JsonObject]:
    """The config of a request without what a graph adds whose node sends it, and the answers that
    the graph was resumed with. Nothing of it reaches the run: there it would say what has been
    answered."""
    if not isinstance(config, dict):
        return None, {}
    kept, carried = {**config}, {}
    given = config.get("configurable")
    if isinstance(given, dict):
        answers = given.get(RESUME_MAP)
        carried = answers if isinstance(answers, dict) else {}
        kept["configurable"] = {key: value for key, value in given.items() if not is_own_key(key)}
    tags, metadata = config.get("tags"), config.get("metadata")
    if isinstance(tags, list):
        kept["tags"] = [each for each in tags if not isinstance(each, str) or ":" not in each]
    if isinstance(metadata, dict):
        kept["metadata"] = {
            key: value
            for key, value in metadata.items()
            if not is_own_key(key) and not is_trace_key(key)
        }
    return kept, carried


def task_in(config: Json) -> JsonObject | None:
    """The task of another graph that sends a request with this config: the same when that does it
    anew, and another in each of its steps. None if no graph sends it."""
    metadata = config.get("metadata") if isinstance(config, dict) else None
    if not isinstance(metadata, dict):
        return None
    place = metadata.get("langgraph_checkpoint_ns")
    if not isinstance(place, str) or not place:
        return None
    # It is the same in the run that goes on behind a pause.
    return {"place": place, "thread": metadata.get("thread_id")}


def answered_in(carried: JsonObject, pending: Sequence[Approval]) -> JsonObject:
    """The answers that are to what is pending. The others were to something else: the graph keeps
    them as long as it runs."""
    ids = {each.interrupt_id or pause_id(each.run_id) for each in pending}
    return {key: value for key, value in carried.items() if key in ids}


def ids_in(answer: Json) -> set[str]:
    """The names under which an answer has decisions, if it has any by name."""
    if not isinstance(answer, dict):
        return set()
    listed = answer.get("decisions")
    return {*answer, *(listed if isinstance(listed, dict) else ())}


def by_approval(pending: Sequence[Approval], answer: Json) -> Json:
    """The answer with the ids of approvals in place of that of the pause, which stands for those
    that no interrupt of the graph asks. Raises `InvalidDecision` for more or fewer decisions than
    there are of these."""
    answer = _of_agui(pending, answer)
    if not isinstance(answer, dict):
        return answer
    decisions: JsonObject = {}
    for key, value in answer.items():
        asked = [each for each in pending if pause_id(each.run_id) == key]
        if asked:
            decisions |= _each(without_interrupt(asked), value)
        else:
            decisions[key] = value
    return decisions


def _of_agui(pending: Sequence[Approval], answer: Json) -> Json:
    """The answer by the ids of interrupts, if AG-UI's agent for LangGraph has made it of several
    answers, or of one interrupt that a person cancelled; any other answer as it is."""
    match answer:
        case {"__agui_cancelled__": True, "interrupt_id": str(interrupt_id)}:
            return {interrupt_id: _rejections(pending, interrupt_id)}
        case {"__agui_resume_map__": dict(answers)}:
            return {
                interrupt_id: _rejections(pending, interrupt_id)
                if each.get("status") == "cancelled"
                else each.get("payload")
                for interrupt_id, each in answers.items()
                if isinstance(each, dict)
            }
        case _:
            return answer


def _rejections(pending: Sequence[Approval], interrupt_id: str) -> list[Json]:
    """A rejection of each approval that the interrupt asks for."""
    asked = [each for each in pending if interrupt_id in (each.interrupt_id, pause_id(each.run_id))]
    return [{"type": "reject"} for _ in asked]


def _each(asked: Sequence[Approval], value: Json) -> JsonObject:
    listed = value["decisions"] if isinstance(value, dict) and [*value] == ["decisions"] else value
    decisions = listed if isinstance(listed, list) else [listed]
    if len(decisions) != len(asked):
        raise InvalidDecision(
            f"Pending approvals: {len(asked)}; decisions that were sent: {len(decisions)}. "
            "Give one for each, in the order in which they are asked.",
            approvals=[each.approval_id for each in asked],
        )
    return {each.approval_id: one for each, one in zip(asked, decisions, strict=True)}

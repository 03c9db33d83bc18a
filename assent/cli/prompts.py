"""A person's decisions, asked for at the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from assent.cli.lines import Lines
from assent.cli.screen import Screen, call_line
from assent.cli.wording import Approval, Choice, choices, limit_from, no_choice
from assent.core.json import Json, JsonObject, read_typed
from assent.core.question_text import Answers, Field, NotUnderstood, answers_for, form_of
from assent.core.text import pretty, visible

T = TypeVar("T")

REFUSE = "/reject"
"""Typed in place of an answer, with the reason behind it if there is one."""

APPROVE_ALL = "A"

_LEFT_OUT = object()


class _Declined(Exception):
    """The question is declined, for the reason that is the exception's text."""


class _AllApproved(Exception):
    """This approval and all that follow are approved."""


class Prompts:
    """The questions to a person, on a terminal or in a pipe."""

    def __init__(self, screen: Screen, lines: Lines) -> None:
        self._screen = screen
        self._lines = lines
        self._typed: dict[tuple[str, str], str] = {}
        """What was typed in the last round, by approval and by the name of what was asked."""
        self._last: JsonObject = {}
        """The decisions of the last round."""
        self._refusal = ""

    def decisions(self, approvals: Sequence[Approval], refusal: str = "") -> JsonObject | None:
        """The decisions on these approvals, by id; None if they are left pending.

        All of them are shown before the first is asked for. With a `refusal` of the last round's
        decisions, nothing is shown again: only what was typed is asked for once more, with the
        refusal beneath it.
        """
        again = bool(refusal) and self._are_the_last(approvals)
        if not again:
            if refusal:
                self._screen.line(refusal, "red")
            self._typed.clear()
            self._last.clear()
            self.show(approvals)
            self._lines.forget()

        self._refusal = refusal if again else ""
        try:
            decisions = self._retyped(approvals) if again else self._asked(approvals)
        except (KeyboardInterrupt, EOFError):
            self._screen.line("")
            return None
        self._last = decisions
        return decisions

    def show(self, approvals: Sequence[Approval]) -> None:
        """Show each approval, with its place among several."""
        for number, approval in enumerate(approvals, 1):
            place = f" ({number} of {len(approvals)})" if len(approvals) > 1 else ""
            self._screen.approval(approval, place)

    def _are_the_last(self, approvals: Sequence[Approval]) -> bool:
        """True if the last round decided exactly these, as they are now, and something was typed in
        it that may be wrong."""
        shown = {each["approval_id"]: each["digest"] for each in approvals}
        last = {id: decision["digest"] for id, decision in self._last.items()}
        return shown == last and bool(self._typed)

    def _asked(self, approvals: Sequence[Approval]) -> JsonObject:
        decisions: JsonObject = {}
        for number, approval in enumerate(approvals):
            rest = approvals[number:]
            if len(approvals) > 1:
                # Two calls may be of one tool, so each question names its call.
                place = f"({number + 1} of {len(approvals)})"
                self._screen.line(f"{place} {call_line(approval)}", "bold")

            try:
                decision = self._decision(approval, together=_can_be_approved_together(rest))
            except _AllApproved:
                return decisions | {each["approval_id"]: _approve(each) for each in rest}
            decisions[approval["approval_id"]] = _about(decision, approval)
        return decisions

    def _retyped(self, approvals: Sequence[Approval]) -> JsonObject:
        """The last decisions, with what was typed in them typed anew."""
        typed = {id for id, _ in self._typed}
        decisions = dict(self._last)
        for approval in approvals:
            id = approval["approval_id"]
            if id not in typed:
                continue
            decision = self._details(decisions[id]["type"], approval)
            if decision is None:
                decision = self._decision(approval, together=False)
            decisions[id] = _about(decision, approval)
        return decisions

    def _decision(self, approval: Approval, *, together: bool) -> JsonObject:
        """The decision on one approval. With `together`, a person may approve this one and all that
        follow: `_AllApproved`."""
        if approval["kind"] == "input":
            return self._answer(approval)

        ways = choices(approval)
        labels = [way.label for way in ways]
        keys = [way.words[0] for way in ways]
        if together:
            labels.append("[A]pprove all")
            keys.append(APPROVE_ALL)
        takes_limit = approval["kind"] == "budget" and "edit" in approval["allowed"]

        def chosen(text: str) -> Choice | float | None:
            typed = text.strip()
            if together and typed == APPROVE_ALL:
                return None  # All of them.
            limit = limit_from(typed, approval) if takes_limit else None
            if isinstance(limit, str):
                raise NotUnderstood(limit)
            if limit is not None:
                return limit
            for way in ways:
                if typed.lower() in way.words:
                    return way
            raise NotUnderstood(no_choice(typed, keys))

        while True:
            choice = self._lines.ask(f"{' / '.join(labels)} ? ", chosen)
            if choice is None:
                raise _AllApproved
            if not isinstance(choice, Choice):
                return {"type": "edit", "args": {"limit": choice}}
            decision = self._details(choice.type, approval)
            if decision is not None:
                return decision

    def _details(self, decision: str, approval: Approval) -> JsonObject | None:
        """The decision with what else it takes; None if the person thought better of it."""
        if approval["kind"] == "input":
            return self._answer(approval)
        if decision == "edit":
            args = self._edit(approval)
            return None if args is None else {"type": "edit", "args": args}

        if decision == "reject":
            # Nobody reads why no more may be used, and a graph may keep no messages.
            is_read = approval["kind"] not in ("budget", "node")
            reader = "the agent reads it; " if is_read else ""
            return _rejection(self._lines.ask(f"why ({reader}may be empty): ", str))

        if decision == "respond" and approval["kind"] == "unknown_outcome":
            question = "its result (the agent reads it; may be empty): "
            result = self._read(approval, "", question, str).strip()
            return {"type": "respond", "message": result or "It happened."}
        if decision == "respond":
            result = self._read(approval, "", "the result to tell the agent: ", str)
            return {"type": "respond", "message": result}
        return {"type": decision}

    # ── what is typed ─────────────────────────────────────────────────────────────────────────────

    def _answer(self, approval: Approval) -> JsonObject:
        """The answer to a question, or a rejection."""
        refusal = f"; {REFUSE} <why> declines" if "reject" in approval["allowed"] else ""
        try:
            fields = form_of(approval.get("schema"))
            if fields:
                self._screen.line(f"Please fill in{refusal}:", "dim")
                message = self._fill_in(approval, fields, refusal)
            else:
                answers = answers_for(approval["args"], approval.get("schema"))
                question = f"your answer ({answers.hint}{refusal}): "
                message = self._take(approval, "", question, answers, refusal)
        except _Declined as declined:
            self._typed = {at: text for at, text in self._typed.items() if at[0] != _id(approval)}
            return _rejection(str(declined))
        return {"type": "respond", "message": message}

    def _fill_in(self, approval: Approval, fields: Sequence[Field], refusal: str) -> JsonObject:
        filled: JsonObject = {}
        for field in fields:
            hint = field.answers.hint
            if field.description:
                hint += f", {visible(field.description)}"
            if not field.needed:
                hint += "; may be empty"
            value = self._take(
                approval,
                field.name,
                f"{visible(field.name)} ({hint}): ",
                field.answers,
                refusal,
                default=None if field.needed else _LEFT_OUT,
            )
            if value is not _LEFT_OUT:
                filled[field.name] = value
        return filled

    def _take(
        self,
        approval: Approval,
        name: str,
        question: str,
        answers: Answers,
        refusal: str,
        default: object = None,
    ) -> Json:
        """An answer; `default` is taken for an empty line. Raises `_Declined`."""
        for line in answers.lines():
            self._screen.line(line)

        def read(typed: str) -> Json | _Declined:
            text = typed.strip()
            word, _, reason = text.partition(" ")
            if refusal and word == REFUSE:
                return _Declined(reason)
            if not text and default is not None:
                return default
            if not text:
                raise NotUnderstood("An answer is needed. Ctrl-C leaves it pending.")
            return answers.read(text)

        answer = self._read(approval, name, question, read)
        if isinstance(answer, _Declined):
            raise answer
        return answer

    def _read(self, approval: Approval, name: str, question: str, read: Callable[[str], T]) -> T:
        """What `read` makes of what is typed. It is kept, in case that the server refuses it."""
        place = (_id(approval), name)

        def kept(text: str) -> T:
            self._typed[place] = text
            return read(text)

        default, error = self._typed.pop(place, ""), self._refusal
        # One refusal is shown once, beneath the first thing that it may be about.
        self._refusal = ""
        return self._lines.ask(question, kept, default=default, error=error)

    def _edit(self, approval: Approval) -> JsonObject | None:
        """The changed arguments; None if they were not changed."""
        place = (_id(approval), "")

        def kept(text: str) -> JsonObject:
            self._typed[place] = text
            return _arguments_from(text)

        text = self._typed.pop(place, "") or pretty(approval["args"])
        error, self._refusal = self._refusal, ""
        question = "the arguments as one line of JSON: "
        args = self._lines.edit(text, kept, question=question, error=error)
        if args is None:
            self._typed.pop(place, None)
            self._screen.line("Nothing was changed.", "yellow")
        return args


def _arguments_from(text: str) -> JsonObject:
    try:
        args = read_typed(text)
    except ValueError as error:
        raise NotUnderstood(f"This is not JSON: {error}.") from error
    if not isinstance(args, dict):
        raise NotUnderstood("The arguments must be a JSON object.")
    return args


def _id(approval: Approval) -> str:
    return str(approval["approval_id"])


def _can_be_approved_together(approvals: Sequence[Approval]) -> bool:
    return len(approvals) > 1 and all(
        each["kind"] in ("tool", "node") and "approve" in each["allowed"] for each in approvals
    )


def _about(decision: JsonObject, approval: Approval) -> JsonObject:
    """The decision about exactly what was shown."""
    return {**decision, "digest": approval["digest"]}


def _approve(approval: Approval) -> JsonObject:
    return _about({"type": "approve"}, approval)


def _rejection(reason: str) -> JsonObject:
    reason = reason.strip()
    return {"type": "reject", "message": reason} if reason else {"type": "reject"}

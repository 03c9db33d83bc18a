"""A person's decisions, asked for at the prompt."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from assent.cli.screen import Screen, call_line
from assent.cli.wording import Approval, choices, limit_from
from assent.core.json import Json, JsonObject, read_typed
from assent.core.question_text import Answers, Field, NotUnderstood, answers_for, form_of
from assent.core.text import pretty, visible

REFUSE = "/reject"
"""Typed in place of an answer, with the reason behind it if there is one."""

APPROVE_ALL = "A"

_LEFT_OUT = object()


class _Declined(Exception):
    """The question is declined, for the reason that is the exception's text."""


class Prompts:
    """The questions to a person, on a terminal or in a pipe."""

    def __init__(self, screen: Screen) -> None:
        self.interactive = sys.stdin.isatty()
        self._screen = screen

    def decisions(self, approvals: Sequence[Approval]) -> JsonObject | None:
        """The decisions on these approvals, by id; None if they are left pending.

        All of them are shown before the first is asked for.
        """
        self.show(approvals)
        self._forget_typing()
        decisions: JsonObject = {}
        try:
            for number, approval in enumerate(approvals):
                rest = approvals[number:]
                if len(approvals) > 1:
                    # Two calls may be of one tool, so each question names its call.
                    place = f"({number + 1} of {len(approvals)})"
                    self._screen.line(f"{place} {call_line(approval)}", "bold")

                decision = self._decision(approval, together=_can_be_approved_together(rest))
                if decision is None:
                    decisions |= {each["approval_id"]: _approve(each) for each in rest}
                    break
                decisions[approval["approval_id"]] = _about(decision, approval)
        except (KeyboardInterrupt, EOFError):
            self._screen.line("")
            return None
        return decisions

    def show(self, approvals: Sequence[Approval]) -> None:
        """Show each approval, with its place among several."""
        for number, approval in enumerate(approvals, 1):
            place = f" ({number} of {len(approvals)})" if len(approvals) > 1 else ""
            self._screen.approval(approval, place)

    def _forget_typing(self) -> None:
        """Drop what was typed before the question was shown: it is no answer to it."""
        if self.interactive and os.name == "posix":
            import termios

            termios.tcflush(sys.stdin, termios.TCIFLUSH)

    def _decision(self, approval: Approval, *, together: bool) -> JsonObject | None:
        """The decision on one approval; None approves this one and all that follow."""
        if approval["kind"] == "input":
            return self._answer(approval)

        ways = choices(approval)
        labels = [way.label for way in ways]
        keys = [way.words[0] for way in ways]
        if together:
            labels.append("[A]pprove all")
            keys.append(APPROVE_ALL)
        takes_limit = approval["kind"] == "budget" and "edit" in approval["allowed"]

        while True:
            typed = input(f"{' / '.join(labels)} ? ").strip()
            if together and typed == APPROVE_ALL:
                return None

            limit = limit_from(typed, approval) if takes_limit else None
            if isinstance(limit, str):
                self._screen.line(limit, "yellow")
                continue
            if limit is not None:
                return {"type": "edit", "args": {"limit": limit}}

            chosen = [way for way in ways if typed.lower() in way.words]
            if not chosen:
                hint = f"Type one of {', '.join(keys)}. Ctrl-C leaves it pending."
                self._screen.line(hint, "yellow")
                continue
            decision = self._details(chosen[0].type, approval)
            if decision is not None:
                return decision

    def _details(self, decision: str, approval: Approval) -> JsonObject | None:
        """The decision with what else it takes; None if the person thought better of it."""
        if decision == "edit":
            args = self._edit(approval["args"])
            return None if args is None else {"type": "edit", "args": args}

        if decision == "reject":
            # Nobody reads why no more may be used, and a graph may keep no messages.
            is_read = approval["kind"] not in ("budget", "node")
            reader = "the agent reads it; " if is_read else ""
            return _rejection(input(f"why ({reader}may be empty): "))

        if decision == "respond" and approval["kind"] == "unknown_outcome":
            result = input("its result (the agent reads it; may be empty): ").strip()
            return {"type": "respond", "message": result or "It happened."}
        if decision == "respond":
            return {"type": "respond", "message": input("the result to tell the agent: ")}
        return {"type": decision}

    # ── questions ─────────────────────────────────────────────────────────────────────────────────

    def _answer(self, approval: Approval) -> JsonObject:
        """The answer to a question, or a rejection."""
        refusal = f"; {REFUSE} <why> declines" if "reject" in approval["allowed"] else ""
        try:
            fields = form_of(approval.get("schema"))
            if fields:
                self._screen.line(f"Please fill in{refusal}:", "dim")
                message = self._fill_in(fields, refusal)
            else:
                answers = answers_for(approval["args"], approval.get("schema"))
                question = f"your answer ({answers.hint}{refusal}): "
                message = self._read(question, answers, refusal)
        except _Declined as declined:
            return _rejection(str(declined))
        return {"type": "respond", "message": message}

    def _fill_in(self, fields: Sequence[Field], refusal: str) -> JsonObject:
        filled: JsonObject = {}
        for field in fields:
            hint = field.answers.hint
            if field.description:
                hint += f", {visible(field.description)}"
            if not field.needed:
                hint += "; may be empty"
            value = self._read(
                f"{visible(field.name)} ({hint}): ",
                field.answers,
                refusal,
                default=None if field.needed else _LEFT_OUT,
            )
            if value is not _LEFT_OUT:
                filled[field.name] = value
        return filled

    def _read(self, question: str, answers: Answers, refusal: str, default: object = None) -> Json:
        """An answer; `default` is taken for an empty line. Raises `_Declined`."""
        for line in answers.lines():
            self._screen.line(line)
        while True:
            text = input(question).strip()
            word, _, reason = text.partition(" ")
            if refusal and word == REFUSE:
                raise _Declined(reason)
            if not text and default is not None:
                return default
            if not text:
                self._screen.line("An answer is needed. Ctrl-C leaves the question open.", "yellow")
                continue
            try:
                return answers.read(text)
            except NotUnderstood as problem:
                self._screen.line(str(problem), "yellow")

    def _edit(self, args: Json) -> JsonObject | None:
        """The changed arguments, from an editor or from one line; None if they were not changed."""
        text = pretty(args)
        while True:
            if self.interactive:
                edited = click.edit(f"{text}\n", extension=".json")
            else:
                edited = input("the arguments as one line of JSON: ")
            if edited is None:
                self._screen.line("Nothing was changed.", "yellow")
                return None

            try:
                changed = read_typed(edited)
            except ValueError as error:
                self._screen.line(f"This is not JSON: {error}.", "red")
                if self.interactive:
                    input("Enter edits it again, Ctrl-C leaves it pending: ")
            else:
                if isinstance(changed, dict):
                    return changed
                self._screen.line("The arguments must be a JSON object.", "red")
            text = edited.rstrip("\n")


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

"""The marks of the TypeScript client are those of the server's own warnings."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata
from typing import Any

from assent.core.text import LINE_BREAKS, LOOK_ALIKES, is_unseen, look_alikes
from tests.support.command import REPOSITORY
from tests.support.node import TYPESCRIPT, node

CLIENT = REPOSITORY / "web" / "packages" / "client" / "src" / "index.ts"
MARKS = """
import { readFileSync } from "node:fs";
const { visible } = await import(process.argv[1]);
const texts = JSON.parse(readFileSync(0, "utf8"));
const marked = (text) => visible(text).filter((segment) => segment.kind !== "plain");
const shown = texts.map((text) => marked(text).map(({ text, kind, like }) => [text, kind, like]));
process.stdout.write(JSON.stringify(shown));
"""
WORDS = ("pay", "Оплата", "Ελλάδα", "հայերեն", "x", "日本", "naïve", "m²", "ﬁne", "10", "_")
SEED = 16


def marks(texts: list[str]) -> list[list[list[str]]]:
    """What the client marks in each text: the character, its kind, and what it looks like."""
    command = [node(TYPESCRIPT), "--input-type=module", "--eval", MARKS, CLIENT.as_uri()]
    done = subprocess.run(
        command, input=json.dumps(texts).encode(), capture_output=True, check=True
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def test_each_character_that_nobody_sees_is_marked() -> None:
    # A newer Unicode may say of others what they are.
    known = [chr(code) for code in range(sys.maxunicode + 1)]
    texts = [char for char in known if unicodedata.category(char) not in ("Cn", "Cs")]
    unseen = {char for char in texts if is_unseen(char) and char not in LINE_BREAKS}
    found = zip(texts, marks(texts), strict=True)
    assert {
        char for char, (*its,) in found if any(kind == "unseen" for _, kind, _ in its)
    } == unseen


def test_each_letter_that_looks_like_another_is_marked() -> None:
    chance = random.Random(SEED)
    pieces = [*WORDS, *WORDS, *LOOK_ALIKES, " ", " ", " ", "𝐚", "Ⅷ"]
    texts = ["".join(chance.choices(pieces, k=chance.randint(1, 6))) for _ in range(2_000)]
    for text, found in zip(texts, marks(texts), strict=True):
        alike = {char: like for char, kind, like in found if kind == "alike"}
        assert alike == look_alikes(text), text

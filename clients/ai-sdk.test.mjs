/**
 * The AI SDK's `Chat`, which `useChat` shows, made and used as `docs/how-to/use-from-ai-sdk.md` says.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { letGo, newAmount, page, traces, until } from "./harness.mjs";

const { openChat, asked, approve, reject, edit, answer, cancel } = await page("use-from-ai-sdk");

let conversations = 0;
const open = (agent = "agent") => openChat(`ai-sdk-${process.pid}-${++conversations}`, { agent });
const again = (chat, messages = []) => openChat(chat.id, { agent: "agent", messages });

/** Wait until the chat rests in this state of its last message. */
const rests = (chat, state) =>
  until(
    () =>
      ["ready", "error"].includes(chat.status) &&
      chat.lastMessage?.parts.some((part) => part.state === state),
    `${state}: ${chat.status}`,
  );

const words = (chat) =>
  chat.lastMessage.parts.map((part) => (part.type === "text" ? part.text : "")).join("");

test("a call is approved, and another denied, in one message", async () => {
  const [paid, kept] = [newAmount(), newAmount()];
  const chat = open();
  await chat.sendMessage({ text: `pay ${paid}; pay ${kept}` });
  const { id } = chat.lastMessage;
  const [first, second] = asked(chat);
  assert.deepEqual([first.input, second.input], [{ amount: paid }, { amount: kept }]);
  await approve(chat, first);
  assert.equal(traces(`pay ${paid}`), 0);
  await reject(chat, second, "Too much.");
  await rests(chat, "output-denied");
  assert.equal(chat.messages.length, 2);
  assert.equal(chat.lastMessage.id, id);
  assert.match(words(chat), /The reason: Too much\.$/);
  assert.deepEqual([traces(`pay ${paid}`), traces(`pay ${kept}`)], [1, 0]);
});

test("a call is edited, and a question answered", async () => {
  const amount = newAmount();
  const chat = open();
  await chat.sendMessage({ text: `pay ${amount}` });
  await edit(chat, asked(chat)[0], { amount: amount + 1 });
  assert.deepEqual([traces(`pay ${amount}`), traces(`pay ${newAmount()}`)], [0, 1]);

  const questions = open("asking");
  await questions.sendMessage({ text: "Which?" });
  const part = questions.lastMessage.parts.find((each) => each.type === "data-interrupt");
  await answer(questions, part, "This one");
  assert.equal(words(questions), "Answers: ['This one']");
});

test("a page is loaded anew in a pause, and the first decision counts", async () => {
  const amount = newAmount();
  const chat = open();
  await chat.sendMessage({ text: `pay ${amount}` });
  const [fresh, other] = [again(chat), again(chat, structuredClone(chat.messages))];
  await fresh.resumeStream();
  await other.resumeStream();
  assert.deepEqual([fresh.lastMessage, other.messages.length], [chat.lastMessage, 2]);
  await approve(fresh, asked(fresh)[0]);
  await rests(fresh, "output-available");
  await reject(other, asked(other)[0], "No.");
  await until(() => other.error);
  assert.match(other.error.message, /it was approved by/);
  assert.equal(traces(`pay ${amount}`), 1);
  await fresh.resumeStream();
  assert.equal(fresh.status, "ready");
});

test("a page is loaded anew in a turn, which is cancelled", async () => {
  const amount = newAmount();
  const chat = open();
  const turn = chat.sendMessage({ text: `hold ${amount}` });
  await until(() => traces(`hold ${amount}`));
  const fresh = again(chat);
  const resumed = fresh.resumeStream();
  await until(() => fresh.lastMessage?.parts.some((part) => part.type === "tool-hold"));
  await cancel(chat);
  letGo(amount);
  await Promise.all([turn, resumed]);
  assert.deepEqual([fresh.status, fresh.lastMessage], ["ready", chat.lastMessage]);
});

test("a message is answered anew, and changed", async () => {
  const amount = newAmount();
  const chat = open();
  await chat.sendMessage({ text: `look ${amount}` });
  await chat.regenerate();
  assert.deepEqual([chat.messages.length, traces(`look ${amount}`)], [2, 2]);
  await chat.sendMessage({ text: "boom", messageId: chat.messages[0].id });
  assert.match(chat.error.message, /^The run failed/);
});

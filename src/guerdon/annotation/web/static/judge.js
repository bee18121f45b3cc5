// The page where people judge. One assignment is on the screen; the next one comes with the answer to a submission, so that
// from a key press to the next pair there is one request. Nothing that was answered is forgotten before the server has it.

import { byId, h, key } from "./page.js";
import { Offline, Refused, alone, draft, drop, dropOldDrafts, get, isKept, keep, keepDraft, keepSetting, onAnsweredElsewhere, onDisk, outbox, post, randomKey, restore, setting, tellTabs } from "./server.js";
import { createDetails, createVerdict, nameOf } from "./verdicts.js";
import { countWords, differences, exact } from "./words.js";

const UNDO_SECONDS = 10;
const IDLE = 60_000; // milliseconds without input after which time is not counted as work
const RETRY = [2, 4, 8, 15, 30]; // seconds
const ROLES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };

let assignment = null; // what is on the screen
let verdict = null;
let details = null;
let built = ""; // the screen that verdict and details were built for
let isChange = false; // an earlier answer is being changed
let busy = false;
let shownAt = 0;
let activeMs = 0;
let lastInput = Date.now();
let retries = 0;
let retryTimer = 0;
let beat = 0;
let undoTimer = 0;
const answered = []; // ids of judgments, the last one last: what Undo opens
const view = { raw: false, diff: false, opened: setting("opened", false) };

// ---- Showing --------------------------------------------------------------------------------------------------------

function show(claimed) {
  busy = false;
  if (claimed.error) return message(claimed.error), showPanel("stopped");
  if (claimed.done) return showDone(claimed);
  showAssignment(claimed.assignment, false);
}

function showAssignment(next, isOld) {
  assignment = next;
  isChange = isOld;
  shownAt = Date.now();
  const kept = draft(next.presentation);
  activeMs = kept?.active ?? 0;
  build();
  drawTurns();
  const answer = kept?.answer ?? next.answer;
  verdict.set(answer);
  details.set(answer);
  showPanel("work");
  if (isOld) message("You are changing an earlier answer.", ["Keep it as it was", leaveChange]);
  else message("");
  refreshSubmit();
  scrollTo({ top: 0, behavior: "instant" });
  byId("prompt-title").focus({ preventScroll: true });
}

// The controls, which stay from one assignment to the next as long as the question does.
function build() {
  const { screen, responses } = assignment;
  const handles = responses.map((response) => response.handle);
  const needed = JSON.stringify([screen, screen.verdict.match(/rank|best_worst|rating/) ? handles : handles.length]);
  if (needed === built) return;
  built = needed;
  verdict = createVerdict(screen, handles, edited);
  details = createDetails(screen, verdict.ratesAxes, responses.length, edited);
  byId("question").textContent = screen.question;
  byId("verdict").replaceChildren(...(screen.verdict === "rank" || screen.verdict === "rating" ? [] : [verdict.element]));
  byId("aside").replaceChildren(...(screen.verdict === "rank" || screen.verdict === "rating" ? [verdict.element] : []));
  byId("work").classList.toggle("has-aside", screen.verdict === "rank" || screen.verdict === "rating");
  byId("details").replaceChildren(details.element);
  byId("details-box").hidden = details.isEmpty;
  byId("details-box").open = setting("details", screen.axes.length > 0 || screen.rationale === "required");
  byId("skip-reasons").replaceChildren(
    ...screen.skip_reasons.map((reason, i) =>
      h("button", { type: "button", class: "wide", onclick: () => skip(reason) }, h("span", {}, reason[0].toUpperCase() + reason.slice(1)), i < 9 ? key(String(i + 1)) : null),
    ),
  );
  byId("verdict-keys").replaceChildren(...verdict.keys.flatMap(([keys, use]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, use)]));
}

function drawTurns() {
  const { prompt, tools, responses } = assignment;
  const last = prompt.findLastIndex((turn) => turn.role === "user");
  byId("turns").replaceChildren(...toolsTurn(tools), ...prompt.map((turn, i) => promptTurn(turn, i >= last || view.opened)));
  byId("open-turns").hidden = prompt.length + tools.length < 2;
  byId("open-turns").setAttribute("aria-pressed", String(view.opened));
  const count = responses.length;
  byId("responses").className = `responses count-${Math.min(count, 4)}${view.raw || view.diff ? " raw" : ""}`;
  const marked = view.diff ? markedResponses() : null;
  byId("responses").replaceChildren(...responses.map((response, i) => responseCard(response, i, count, marked?.[i])));
  byId("raw").setAttribute("aria-pressed", String(view.raw));
  byId("diff").setAttribute("aria-pressed", String(view.diff));
}

function toolsTurn(tools) {
  if (!tools.length) return [];
  const names = tools.map((tool) => tool.name).join(", ");
  const box = h("details", { class: "turn" }, h("summary", {}, h("h3", { class: "role" }, "Tools"), h("span", { class: "preview" }, exact(names))));
  box.append(h("div", { class: "text" }));
  for (const tool of tools) box.lastChild.insertAdjacentHTML("beforeend", tool.html);
  return [box];
}

function promptTurn(turn, isOpen) {
  const preview = turn.raw.slice(0, 200);
  const role = ROLES[turn.role] ?? turn.role;
  const summary = h("summary", {}, h("h3", { class: "role" }, turn.name ? `${role}: ${turn.name}` : role), h("span", { class: "preview", dir: "auto" }, exact(preview)));
  return h("details", { class: `turn ${turn.role}`, open: isOpen }, summary, textOf(turn));
}

// The HTML comes from the server, which lets nothing through but harmless elements (annotation/markup.py).
function textOf(turn) {
  if (view.raw) return h("pre", { class: "text exact-text", dir: "auto" }, exact(turn.raw));
  const text = h("div", { class: "text" });
  text.innerHTML = turn.html;
  return text;
}

function responseCard(response, index, count, marked) {
  const name = nameOf(index, count);
  const turns = marked ? [marked] : response.turns.flatMap((turn) => [
    response.turns.length > 1 ? h("p", { class: "role" }, turn.name ? `${ROLES[turn.role]}: ${turn.name}` : ROLES[turn.role]) : null,
    textOf(turn),
  ]);
  const words = assignment.screen.word_counts ? h("span", { class: "note" }, `${countWords(response.turns.map((turn) => turn.raw).join(" "))} words`) : null;
  return h(
    "article",
    { class: "response", id: `response-${index}`, tabindex: "-1", "aria-labelledby": `response-title-${index}` },
    h("header", {}, h("h3", { id: `response-title-${index}` }, h("span", { class: "visually-hidden" }, "Response "), h("span", { class: "letter" }, name)), words, verdict.badge?.(index)),
    ...turns.filter(Boolean),
  );
}

const wholeText = (response) => response.turns.map((turn) => turn.raw).join("\n\n");

// Each response with the words that the other one lacks; of more than two, compared with the first.
function markedResponses() {
  const texts = assignment.responses.map(wholeText);
  const compared = texts.slice(1).map((text) => differences(texts[0], text));
  if (compared.some((parts) => parts === null)) {
    view.diff = false;
    announce("The responses differ too much to be compared word by word.");
    return null;
  }
  const draw = (parts) => h("pre", { class: "text exact-text", dir: "auto" }, parts.map(([text, isOwn]) => (isOwn ? h("mark", {}, exact(text)) : exact(text))));
  return [draw(compared[0][0]), ...compared.map(([, parts]) => draw(parts))];
}

function showPanel(name) {
  for (const panel of ["work", "done", "waiting", "stopped", "loading"]) byId(panel).hidden = panel !== name;
  byId("bar").hidden = name !== "work";
  if (name !== "work") assignment = name === "waiting" ? assignment : null;
}

function showDone(claimed) {
  message("");
  showPanel("done");
  const others = claimed.held_by_others ?? 0;
  byId("done-text").textContent = others
    ? `Others hold ${others === 1 ? "the last open item" : `${others} open items`}. One may come back to you${claimed.next_expiry ? ` after ${clock(claimed.next_expiry)}` : ""}.`
    : "There is nothing left for you to judge. Thank you.";
  byId("done").focus();
  clearTimeout(retryTimer);
  if (claimed.next_expiry) retryTimer = setTimeout(next, Math.max(5000, Math.min(2 ** 31 - 1, claimed.next_expiry * 1000 - Date.now() + 1000)));
  refreshProgress();
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function message(text, ...actions) {
  const box = byId("message");
  box.hidden = !text;
  box.replaceChildren(h("span", {}, text), ...actions.map(([label, act]) => h("button", { type: "button", class: "small", onclick: act }, label)));
}

function announce(text) {
  byId("announcement").textContent = "";
  requestAnimationFrame(() => (byId("announcement").textContent = text));
  const hint = byId("hint");
  hint.textContent = text;
}

// ---- Answering ------------------------------------------------------------------------------------------------------

function currentAnswer() {
  return { ...verdict.answer(), ...details.answer() };
}

function edited(byKey) {
  if (!assignment) return;
  keepDraft(assignment.presentation, { answer: currentAnswer(), active: activeMs });
  byId("hint").textContent = "";
  refreshSubmit();
  const wants = setting("auto_submit", assignment.screen.auto_submit);
  if (byKey === true && wants && !details.problem()) submit();
}

function refreshSubmit() {
  byId("submit").classList.toggle("ready", !verdict.problem() && !details.problem());
  byId("undo").disabled = !answered.length;
}

async function submit() {
  if (busy || !assignment) return;
  const problem = verdict.problem() ?? details.problem();
  if (problem) {
    announce(problem);
    if (!verdict.problem()) byId("details-box").open = true;
    return;
  }
  busy = true;
  performance.mark("submitted");
  const entry = {
    key: randomKey(),
    at: Date.now(),
    presentation: assignment.presentation,
    summary: verdict.summary(),
    answer: { ...currentAnswer(), active_ms: activeMs, wall_ms: Date.now() - shownAt },
  };
  keep(entry);
  await send(entry, true);
}

// One answer to the server. Resolves to whether the server is done with it; what else happens is on the screen.
async function send(entry, isOnScreen) {
  try {
    const result = await post(`presentations/${entry.presentation}/judgment${isOnScreen ? "?next=1" : ""}`, entry.answer, entry.key);
    drop(entry);
    keepDraft(entry.presentation, null);
    tellTabs(entry.presentation);
    if (!answered.includes(result.judgment.id)) {
      answered.push(result.judgment.id);
      if (result.judgment.revision === undefined || result.judgment.revision <= 1) countOne();
    }
    retries = 0;
    if (isOnScreen) {
      const known = knownAnswer(result.judgment.feedback);
      show(result.next);
      offerUndo(entry.summary, result.judgment, known);
    }
    return true;
  } catch (error) {
    busy = false;
    if (error instanceof Offline) return wait();
    if (error instanceof Refused) return refused(error, entry, isOnScreen);
    throw error;
  }
}

function refused(error, entry, isOnScreen) {
  if (error.status === 401) {
    message("You are signed out. Your answer is kept on this device.", ["Sign in", () => location.assign(`/login?next=${encodeURIComponent(location.pathname)}`)]);
    return false;
  }
  drop(entry);
  if (error.status === 409 || error.status === 404) {
    keepDraft(entry.presentation, null);
    next().then(() => message(error.message));
  } else {
    message(error.message);
    if (!isOnScreen) keepDraft(entry.presentation, { answer: entry.answer, active: entry.answer.active_ms });
  }
  return true;
}

// What the server does not have yet, in order; then the next item.
async function next() {
  clearTimeout(retryTimer);
  try {
    const isDone = await alone(async () => {
      for (const entry of outbox()) if (isKept(entry) && !(await send(entry, false))) return false;
      return true;
    });
    if (!isDone) return;
    show(await post("claim"));
  } catch (error) {
    if (error instanceof Offline) return wait();
    if (error instanceof Refused && error.status === 401) return location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
    if (error instanceof Refused) return message(error.message), showPanel("stopped");
    throw error;
  }
}

// No connection: what is on the screen stays if it is not answered yet, and the answer is kept if it is.
async function wait() {
  await onDisk();
  const kept = outbox().length;
  const isAnswered = assignment && outbox().some((entry) => entry.presentation === assignment.presentation);
  if (isAnswered || !assignment) {
    showPanel("waiting");
    byId("toast").hidden = true; // of the answer before this one: it would read as if this one were stored
  }
  byId("waiting-text").textContent = kept
    ? `${kept === 1 ? "Your last answer is" : `${kept} answers are`} kept on this device, and sent when the connection is back.`
    : "The page goes on when the connection is back.";
  byId("take-back").hidden = !isAnswered;
  clearTimeout(retryTimer);
  retryTimer = setTimeout(next, RETRY[Math.min(retries++, RETRY.length - 1)] * 1000);
  return false;
}

function takeBack() {
  for (const entry of outbox()) if (entry.presentation === assignment?.presentation) drop(entry);
  showAssignment(assignment, isChange);
}

async function skip(reason) {
  byId("skip-dialog").close();
  if (busy || !assignment) return;
  busy = true;
  const { presentation } = assignment;
  await ask(async () => {
    const result = await post(`presentations/${presentation}/skip?next=1`, { reason });
    keepDraft(presentation, null);
    tellTabs(presentation);
    show(result.next);
    byId("toast").hidden = true;
  });
}

async function undo() {
  if (!byId("waiting").hidden && !byId("take-back").hidden) return takeBack();
  if (busy || !answered.length) return;
  busy = true;
  const judgment = answered.at(-1);
  await ask(async () => {
    const opened = await post(`judgments/${judgment}/reopen`);
    answered.pop();
    showAssignment(opened.assignment, true);
    byId("toast").hidden = true;
  });
}

async function leaveChange() {
  keepDraft(assignment.presentation, null);
  await next();
}

// A request whose failure leaves everything as it was.
async function ask(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Offline) announce("No connection. Try again when it is back.");
    else if (error instanceof Refused) message(error.message);
    else throw error;
  } finally {
    busy = false;
  }
}

// What is right, where a training item says so.
function knownAnswer(feedback) {
  if (!feedback) return "";
  const handles = assignment.responses.map((response) => response.handle);
  const names = feedback.ranking.map((group) => group.map((handle) => nameOf(handles.indexOf(handle), handles.length)).join(" = "));
  return `${feedback.passed ? "That is the known answer" : "The known answer is another"}: ${names.join(" > ")}.`;
}

function offerUndo(summary, judgment, known) {
  const toast = byId("toast");
  clearTimeout(undoTimer);
  byId("toast-text").textContent = `${judgment.late ? "Stored, though late" : "Stored"}: ${summary}.`;
  byId("feedback").textContent = known;
  toast.hidden = false;
  toast.classList.remove("counting");
  void toast.offsetWidth; // starts the bar anew
  toast.classList.add("counting");
  undoTimer = setTimeout(() => (toast.hidden = true), UNDO_SECONDS * 1000);
}

// ---- Leases, time and progress --------------------------------------------------------------------------------------

async function heartbeat() {
  if (document.visibilityState !== "visible" || !assignment || busy || isChange || byId("work").hidden) return;
  const { presentation } = assignment;
  try {
    assignment.expires = (await post(`presentations/${presentation}/heartbeat`)).expires ?? assignment.expires;
  } catch (error) {
    if (!(error instanceof Refused) || assignment?.presentation !== presentation || busy) return;
    if (error.status === 401) message("You are signed out. What you chose is kept on this device.", ["Sign in", () => location.assign(`/login?next=${encodeURIComponent(location.pathname)}`)]);
    else message("You had this open for so long that it may go to somebody else. Your answer still counts.", ["Get another one", next]);
  }
}

let progress = null;

async function refreshProgress() {
  try {
    progress = await get("me/progress");
  } catch {
    return;
  }
  drawProgress();
}

function drawProgress() {
  if (!progress) return;
  const { done, today, remaining } = progress;
  byId("progress-done").textContent = `${done.toLocaleString()} done`;
  byId("progress-today").textContent = `, ${today.toLocaleString()} today`;
  byId("progress-left").textContent = remaining === null || remaining === undefined ? "" : `, ${remaining.toLocaleString()} left`;
  byId("progress-bar").max = Math.max(1, done + (remaining ?? 0));
  byId("progress-bar").value = done;
}

function countOne() {
  if (!progress) return;
  progress.done++;
  progress.today++;
  if (progress.remaining) progress.remaining--;
  drawProgress();
  if (progress.done % 10 === 0) refreshProgress();
}

// ---- Keys and buttons -----------------------------------------------------------------------------------------------

function toggle(name) {
  view[name] = !view[name];
  if (name === "raw") view.diff = false;
  if (name === "diff") view.raw = false;
  if (name === "opened") keepSetting("opened", view.opened);
  const answer = currentAnswer();
  drawTurns();
  verdict.set(answer);
}

function focusNextResponse() {
  const cards = [...document.querySelectorAll(".response")];
  const at = cards.indexOf(document.activeElement?.closest(".response"));
  const card = cards[(at + 1) % cards.length];
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "start", behavior: "instant" });
}

function focusRationale() {
  if (!details?.rationale) return;
  byId("details-box").open = true;
  details.rationale.focus();
  details.rationale.scrollIntoView({ block: "center" });
}

const open = (id) => byId(id).showModal();

const ACTIONS = {
  s: () => open("skip-dialog"),
  u: undo,
  r: focusRationale,
  g: () => open("guidelines"),
  m: () => toggle("raw"),
  d: () => toggle("diff"),
  z: focusNextResponse,
  enter: submit,
};

function onKey(event) {
  lastInput = Date.now();
  if (event.isComposing) return;
  const target = event.target;
  const isText = target.matches("textarea, input:not([type=radio], [type=checkbox])");
  if (isText) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else if (event.key === "Escape") target.blur();
    else return;
    return event.preventDefault();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !setting("keys", true)) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    const digit = Number(event.key);
    if (dialog.id === "skip-dialog" && digit >= 1) byId("skip-reasons").children[digit - 1]?.click();
    return;
  }
  if (event.key === "?") return open("help");
  if (event.key.toLowerCase() === "g") return open("guidelines");
  const isButton = target.matches("button, summary, a[href], input[type=checkbox]");
  if (isButton && ["Enter", " "].includes(event.key)) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return;
  if (event.key.toLowerCase() === "u" && byId("work").hidden) return undo();
  if (byId("work").hidden || !verdict) return;
  if (target.matches("input[type=radio]") && event.key.startsWith("Arrow")) return;
  if (verdict.press(event)) return event.preventDefault();
  const act = ACTIONS[event.key.toLowerCase()];
  if (act) {
    event.preventDefault();
    act();
  }
}

function wire() {
  const clicks = { submit, undo, "toast-undo": undo, skip: ACTIONS.s, raw: ACTIONS.m, diff: ACTIONS.d, "show-help": () => open("help"), "show-guidelines": ACTIONS.g, "open-turns": () => toggle("opened"), "check-again": next, "try-again": next, "take-back": takeBack };
  for (const [id, act] of Object.entries(clicks)) byId(id)?.addEventListener("click", () => act());
  for (const [id, name, fallback] of [["keys-on", "keys", true], ["auto-submit", "auto_submit", document.body.dataset.autoSubmit === "true"]]) {
    byId(id).checked = setting(name, fallback);
    byId(id).addEventListener("change", (event) => keepSetting(name, event.target.checked));
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // outside of its box
    for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
  }
  byId("details-box").addEventListener("toggle", () => keepSetting("details", byId("details-box").open));
  byId("acknowledge")?.addEventListener("click", acknowledge);
  document.addEventListener("keydown", onKey);
  for (const name of ["pointermove", "pointerdown", "scroll"]) addEventListener(name, () => (lastInput = Date.now()), { passive: true });
  addEventListener("online", () => outbox().length || !byId("waiting").hidden ? next() : undefined);
  document.addEventListener("visibilitychange", heartbeat);
  onAnsweredElsewhere((presentation) => {
    if (assignment?.presentation !== presentation || busy) return;
    next().then(() => message("That one was answered in another tab."));
  });
  setInterval(() => {
    if (document.visibilityState === "visible" && Date.now() - lastInput < IDLE) activeMs += 1000;
    beat++;
    if (assignment && beat % Math.max(1, Math.round(assignment.screen.heartbeat_seconds)) === 0) heartbeat();
  }, 1000);
}

async function acknowledge() {
  const { guidelinesVersion } = document.body.dataset;
  byId("guidelines").close();
  try {
    await post("me/guidelines", { version: guidelinesVersion });
    byId("acknowledge").hidden = true;
    byId("guidelines-new").hidden = true;
  } catch (error) {
    if (error instanceof Refused) message(error.message);
  }
}

async function start() {
  wire();
  await restore();
  dropOldDrafts();
  const reopened = new URLSearchParams(location.search).get("change");
  if (reopened && /^[\w-]+$/.test(reopened)) {
    history.replaceState(null, "", location.pathname);
    answered.push(reopened);
    await undo();
    if (!assignment) {
      const why = byId("message").textContent;
      await next();
      message(why);
    }
  } else {
    await next();
  }
  if (document.body.dataset.guidelinesNew === "true") open("guidelines");
  refreshProgress();
}

start();

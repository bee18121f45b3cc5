// A person's own judgments, the newest first, each of which can be changed while it is new enough.

import { byId, h } from "./page.js";
import { get } from "./server.js";

const STRENGTHS = ["slightly", "clearly", "much"];

function words(answer) {
  if (answer.both_bad) return "both bad";
  if (answer.verdict === 0) return "about equal";
  if (answer.verdict) return `${answer.verdict < 0 ? "A" : "B"} ${STRENGTHS[Math.abs(answer.verdict) - 1]} better`;
  if (answer.ranking) return `${answer.ranking.length} ranks`;
  if (answer.best) return "best and worst";
  return answer.ratings ? "rated" : "";
}

function row(entry, base) {
  const text = entry.prompt.slice(0, 160);
  const when = new Date(entry.submitted_at * 1000);
  return h(
    "tr",
    {},
    h("td", {}, h("time", { datetime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleString([], { dateStyle: "short", timeStyle: "short" }))),
    h("td", { class: "excerpt", dir: "auto" }, text),
    h("td", {}, words(entry.answer), entry.revision > 1 ? h("span", { class: "note" }, ", changed") : null),
    h("td", {}, entry.can_change ? h("a", { href: `${base}/judge?change=${encodeURIComponent(entry.judgment)}`, "aria-label": `Change the answer to: ${text.slice(0, 60)}` }, "Change") : null),
  );
}

async function start() {
  try {
    const { judgments } = await get("me/history?limit=200");
    byId("rows").replaceChildren(...judgments.map((entry) => row(entry, document.body.dataset.base)));
    byId("list").hidden = judgments.length === 0;
    byId("state").textContent = judgments.length ? "" : "You have not judged anything here yet.";
  } catch (error) {
    byId("state").textContent = error.message || "No connection. Reload the page when it is back.";
  }
}

start();

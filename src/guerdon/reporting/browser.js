"use strict";
// Shows one comparison of the sample at a time. Texts come from strangers: they become text nodes, never markup.
const rows = JSON.parse(document.getElementById("rows").textContent);
const byId = (id) => document.getElementById(id);
const filters = ["finding", "label", "source", "annotator", "length"];
const LENGTHS = [[50, "under 50 words"], [200, "50 to 199 words"], [1000, "200 to 999 words"], [Infinity, "1,000 words or more"]];
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e01ef}]|(?<![^\u0000-\u007f])[\u200c\u200d]|[\u200c\u200d](?![^\u0000-\u007f])/gu;
const MIN_SHARED = 0.4; // of the tokens of the shorter text, for differences to be marked
const MAX_CELLS = 4e6; // of the table that aligns two texts
let matches = [], position = 0;

const valuesOf = {
  finding: (row) => row.findings,
  label: (row) => [row.label],
  source: (row) => [row.source],
  annotator: (row) => [row.annotator],
  length: (row) => [LENGTHS.find(([limit]) => Math.max(...row.responses.map((one) => one.words)) < limit)[1]],
};

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) write(node, text);
  return node;
}

// Characters without a shape, and those that reorder a line, are written as their code points.
function write(node, text) {
  text = text.replaceAll("\r\n", "\n");
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    node.append(text.slice(end, match.index));
    const code = document.createElement("span");
    code.className = "hidden";
    code.textContent = "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(code);
    end = match.index + match[0].length;
  }
  node.append(text.slice(end));
}

// ---- Filters

function fillFilter(name) {
  const counts = new Map();
  for (const row of rows) for (const value of valuesOf[name](row)) counts.set(value, (counts.get(value) || 0) + 1);
  const select = byId(name);
  const order = name === "length" ? LENGTHS.map(([, text]) => text).filter((text) => counts.has(text))
    : [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
  for (const value of order) {
    if (value === "") continue;
    const option = element("option", "", `${value} (${counts.get(value)})`);
    option.value = value;
    select.append(option);
  }
  select.closest("label").hidden = select.options.length < 2 || (select.options.length === 2 && name !== "finding");
}

function applyFilters() {
  const wanted = filters.map((name) => [name, byId(name).value]).filter(([, value]) => value);
  const words = byId("search").value.toLowerCase();
  matches = rows.filter((row) => wanted.every(([name, value]) => valuesOf[name](row).includes(value)) && (!words || contains(row, words)));
  position = 0;
  render();
}

function contains(row, words) {
  const texts = [row.place, row.rationale, ...row.prompt.map(([, text]) => text), ...row.responses.map((one) => one.text)];
  return texts.some((text) => text.toLowerCase().includes(words));
}

// ---- Differences

const tokens = (text) => text.match(/\s+|[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]/gu) || [];

// For each token whether the other text has it in the same order: a longest common subsequence.
function sharedTokens(a, b) {
  const shared = [new Array(a.length).fill(false), new Array(b.length).fill(false)];
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) {
    shared[0][start] = shared[1][start] = true;
    start++;
  }
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) {
    end++;
    shared[0][a.length - end] = shared[1][b.length - end] = true;
  }
  const n = a.length - start - end, m = b.length - start - end;
  if (n * m > MAX_CELLS) {
    const [inA, inB] = [new Set(a), new Set(b)];
    return [a.map((token) => inB.has(token)), b.map((token) => inA.has(token))];
  }
  const width = m + 1, length = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) {
    length[i * width + j] = a[start + i] === b[start + j] ? length[(i + 1) * width + j + 1] + 1
      : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
  }
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[start + i] === b[start + j]) shared[0][start + i++] = shared[1][start + j++] = true;
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return shared;
}

// Where texts have little in common, marks would cover everything: null.
function comparedTokens(a, b) {
  const inA = sharedTokens(a, b)[0];
  const num = inA.filter((isShared, i) => isShared && a[i].trim()).length;
  const all = Math.min(a.filter((token) => token.trim()).length, b.filter((token) => token.trim()).length);
  return num >= MIN_SHARED * all ? inA : null;
}

function writeMarked(node, words, shared) {
  for (let i = 0; i < words.length;) {
    let end = i;
    while (end < words.length && (shared[end] === shared[i] || /^\s+$/.test(words[end]))) end++;
    const text = words.slice(i, end).join("");
    if (shared[i] || !text.trim()) write(node, text);
    else node.append(element("mark", "", text));
    i = end;
  }
}

// ---- The comparison

function render() {
  const place = byId("shown");
  place.replaceChildren();
  byId("previous").disabled = position <= 0;
  byId("next").disabled = position >= matches.length - 1;
  byId("position").textContent = matches.length ? `${position + 1} of ${matches.length}` : "none matches";
  if (!matches.length) return;
  const row = matches[position];
  const facts = [row.label, row.strength, row.votes, row.source, row.annotator && `by ${row.annotator}`].filter(Boolean);
  place.append(element("h3", "", row.place), element("p", "who", facts.join(" · ")));
  for (const finding of row.findings) place.append(element("p", "tag", finding));
  if (row.earlier) place.append(element("p", "who", `${row.earlier} earlier turns are left out`));
  for (const [role, text, more] of row.prompt) place.append(turn(role, text, more));
  const sides = element("div", "sides");
  const texts = row.responses.map((one) => tokens(one.text));
  const best = row.responses.findIndex((one) => one.best);
  row.responses.forEach((one, i) => {
    const other = i === best ? (row.responses.length === 2 ? 1 - i : -1) : Math.max(best, 0);
    const isCompared = byId("differences").checked && other >= 0 && other !== i;
    sides.append(side(one, texts[i], isCompared ? comparedTokens(texts[i], texts[other]) : null));
  });
  place.append(sides);
  if (row.left_out) place.append(element("p", "who", `${row.left_out} more responses are left out`));
  if (row.rationale) place.append(turn("reason", row.rationale, 0));
}

function turn(role, text, more) {
  const node = element("div", "turn");
  const body = element("div", "text", text);
  body.tabIndex = 0;
  if (more) body.append(element("span", "who", `${more.toLocaleString("en")} more characters`));
  node.append(element("span", "who", role), body);
  return node;
}

function side(one, words, shared) {
  const node = element("div", one.best ? "side best" : "side");
  const head = element("p", "who");
  head.append(element("strong", "", one.label), element("span", "", ` · ${one.words.toLocaleString("en")} words`));
  if (one.author) head.append(element("span", "", ` · ${one.author}`));
  if (one.ratings) head.append(element("span", "", ` · ${one.ratings}`));
  const body = element("div", "text");
  body.tabIndex = 0;
  if (shared) writeMarked(body, words, shared);
  else write(body, one.text);
  if (one.more) body.append(element("span", "who", `${one.more.toLocaleString("en")} more characters`));
  node.append(head, body);
  return node;
}

function move(step) {
  const next = Math.min(Math.max(position + step, 0), matches.length - 1);
  if (next === position || !matches.length) return;
  position = next;
  render();
}

filters.forEach(fillFilter);
for (const name of [...filters, "differences"]) byId(name).addEventListener("change", name === "differences" ? render : applyFilters);
byId("search").addEventListener("input", applyFilters);
byId("previous").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "j" || event.key === "ArrowRight") move(1);
  if (event.key === "k" || event.key === "ArrowLeft") move(-1);
  if (event.key === "/") { byId("search").focus(); event.preventDefault(); }
});
byId("browse").hidden = false;
applyFilters();

// The ways to answer. Each has: element, set(answer), answer() with the fields of an answer, problem() in words or null,
// press(event) which says whether it used the key, and summary() in words.

import { byId, check, checked, choice, h, key } from "./page.js";

const STRENGTHS = ["slightly", "clearly", "much"];

export function createVerdict(screen, handles, changed) {
  if (screen.verdict === "rank") return ranking(screen, handles, changed);
  if (screen.verdict === "best_worst") return bestWorst(handles, changed);
  if (screen.verdict === "rating") return rating(screen, handles, changed);
  return pair(screen, changed);
}

// Names of responses as people see them: letters for two, whose keys are digits of strength; numbers for more, which are keys.
export const nameOf = (index, count) => (count === 2 ? "AB"[index] : String(index + 1));

// ---- Two responses: a scale -----------------------------------------------------------------------------------------

const BOTH_BAD = "bad";

function pair(screen, changed) {
  const most = screen.verdict === "strength7" ? 3 : 1;
  const canTie = screen.verdict !== "binary";
  const canBeBad = screen.verdict === "strength7" || screen.verdict === "binary_tie_bad";
  const steps = [];
  for (let value = -most; value <= most; value++) if (value || canTie) steps.push(value);
  const meaning = (value) => {
    if (value === BOTH_BAD) return "Both are bad";
    if (value === 0) return "They are about equal";
    const better = value < 0 ? "A" : "B";
    return most === 1 ? `${better} is better` : `${better} is ${STRENGTHS[Math.abs(value) - 1]} better`;
  };
  const text = (value) => {
    if (value === 0) return "equal";
    return most === 1 ? `${value < 0 ? "A" : "B"} is better` : STRENGTHS[Math.abs(value) - 1];
  };
  const bad = canBeBad ? choice("verdict", BOTH_BAD, "both bad", meaning(BOTH_BAD), "B", changed) : null;
  const scale = h(
    "div",
    { class: `scale steps-${steps.length}` },
    steps.map((value, i) => choice("verdict", value, text(value), meaning(value), String(i + 1), changed)),
    most === 1 ? bad : null,
  );
  const end = (name) => h("span", { class: "end", "aria-hidden": "true" }, `${name} is better`);
  const parts = most === 1 ? [scale] : [end("A"), end("B"), scale, bad]; // bad is drawn between the ends of the scale
  const element = h("div", { class: `pair${most === 1 ? "" : " with-ends"}`, role: "radiogroup", "aria-label": screen.question }, parts);
  const value = () => {
    const chosen = checked(element, "verdict");
    return chosen === null || chosen === BOTH_BAD ? chosen : Number(chosen);
  };
  const choose = (chosen) => {
    check(element, "verdict", chosen);
    changed(true);
    return true;
  };
  return {
    element,
    set: (answer) => check(element, "verdict", answer?.both_bad ? BOTH_BAD : (answer?.verdict ?? null)),
    answer: () => (value() === BOTH_BAD ? { verdict: null, both_bad: true } : { verdict: value() }),
    problem: () => (value() === null ? "Choose a verdict first." : null),
    summary: () => meaning(value()),
    press(event) {
      if (/^[1-9]$/.test(event.key) && Number(event.key) <= steps.length) return choose(steps[Number(event.key) - 1]);
      if (event.key.toLowerCase() === "b" && canBeBad) return choose(BOTH_BAD);
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        const now = steps.indexOf(value());
        const middle = Math.floor((steps.length - 1) / 2);
        const next = event.key === "ArrowLeft" ? (now < 0 ? middle : now - 1) : now < 0 ? Math.ceil((steps.length - 1) / 2) : now + 1;
        check(element, "verdict", steps[Math.max(0, Math.min(steps.length - 1, next))]);
        changed();
        return true;
      }
      return false;
    },
    keys: [
      [most === 1 ? `1–${steps.length}` : "1 2 3", most === 1 ? "the choices, from left to right" : "A is much, clearly, slightly better"],
      ...(most === 1 ? [] : [["4", "about equal"], ["5 6 7", "B is slightly, clearly, much better"]]),
      ["← →", "one step to the left or right"],
      ...(canBeBad ? [["B", "both are bad"]] : []),
    ],
  };
}

// ---- Several responses: an order ------------------------------------------------------------------------------------

function ranking(screen, handles, changed) {
  let groups = []; // of indices, best first
  let line = null; // how many groups are acceptable; null where nobody said
  let selected = null;
  const name = (index) => nameOf(index, handles.length);
  const list = h("ol", { class: "ranks", "aria-label": "Your order, best first" });
  const status = h("p", { class: "note", role: "status" });
  const lineButton = h("button", { type: "button", class: "small", onclick: () => drawLine(selected) }, "Unacceptable from here on", key("L"));
  const element = h("section", { class: "ranking", "aria-labelledby": "ranking-title" }, h("h3", { id: "ranking-title" }, "Your order"), list, status, lineButton);

  const groupOf = (index) => groups.findIndex((group) => group.includes(index));
  const tidy = () => {
    groups = groups.filter((group) => group.length);
    if (line !== null) line = Math.min(line, groups.length);
  };
  const place = (index) => {
    if (groupOf(index) < 0) groups.push([index]);
    selected = index;
    redraw();
  };
  const remove = (index) => {
    groups = groups.map((group) => group.filter((other) => other !== index));
    tidy();
    if (selected === index) selected = null;
    redraw();
  };
  // Up or down by one: out of a tie to a place of its own, else past the neighbor.
  const move = (index, step) => {
    const at = groupOf(index);
    if (at < 0) return;
    if (groups[at].length > 1) {
      groups[at] = groups[at].filter((other) => other !== index);
      groups.splice(step < 0 ? at : at + 1, 0, [index]);
    } else if (groups[at + step]) {
      [groups[at], groups[at + step]] = [groups[at + step], groups[at]];
    }
    redraw();
  };
  const tie = (index) => {
    const at = groupOf(index);
    if (at < 0) return;
    if (groups[at].length > 1) return move(index, 1);
    if (at === 0) return;
    groups[at - 1].push(index);
    groups.splice(at, 1);
    tidy();
    redraw();
  };
  const moveTo = (index, at) => {
    const group = groups[at];
    groups = groups.map((others) => others.filter((other) => other !== index));
    const target = group === undefined ? groups.length : groups.findIndex((_, i) => i === at);
    groups.splice(target, 0, [index]);
    tidy();
    selected = index;
    redraw();
  };
  const drawLine = (index) => {
    const at = index === null ? groups.length : groupOf(index);
    line = line === at ? null : at;
    redraw();
  };

  function button(text, label, act, disabled) {
    return h("button", { type: "button", class: "small", "aria-label": label, title: label, disabled, onclick: act }, text);
  }

  function row(index, at, isFirst) {
    const own = `Response ${name(index)}`;
    const rank = 1 + groups.slice(0, at).reduce((sum, group) => sum + group.length, 0);
    return h(
      "li",
      {
        class: `rank${index === selected ? " selected" : ""}${line !== null && at >= line ? " unacceptable" : ""}`,
        draggable: "true",
        "data-index": index,
        ondragstart: (event) => event.dataTransfer.setData("text/plain", String(index)),
        ondragover: (event) => event.preventDefault(),
        ondrop: (event) => {
          event.preventDefault();
          moveTo(Number(event.dataTransfer.getData("text/plain")), at);
        },
      },
      h("span", { class: "position" }, isFirst ? String(rank) : "="),
      h("button", { type: "button", class: "name", "aria-pressed": String(index === selected), onclick: () => place(index) }, own),
      h(
        "span",
        { class: "moves" },
        button("↑", `Move ${own} up`, () => move(index, -1), at === 0 && groups[at].length === 1),
        button("↓", `Move ${own} down`, () => move(index, 1), at === groups.length - 1 && groups[at].length === 1),
        button("=", groups[at].length > 1 ? `Separate ${own}` : `Tie ${own} with the one above`, () => tie(index), at === 0 && groups[at].length === 1),
        button("×", `Take ${own} out`, () => remove(index)),
      ),
    );
  }

  function redraw(quiet) {
    const focus = document.activeElement;
    const kept = element.contains(focus) && focus.closest("li") ? [focus.closest("li").dataset.index, focus.className, focus.textContent] : null;
    const rows = groups.flatMap((group, at) => [
      line === at ? lineRow() : null,
      ...group.map((index, i) => row(index, at, i === 0)),
    ]);
    if (line === groups.length && groups.length) rows.push(lineRow());
    list.replaceChildren(...rows.filter(Boolean));
    const left = handles.map((_, index) => index).filter((index) => groupOf(index) < 0);
    status.textContent = left.length
      ? `Press ${left.map(name).join(", ")}, or “Place next”, from best to worst.`
      : "";
    lineButton.disabled = selected === null;
    for (const [index] of handles.entries()) {
      const badge = byId(`badge-${index}`);
      if (!badge) continue;
      const at = groupOf(index);
      badge.textContent = at < 0 ? "Place next" : `Rank ${1 + groups.slice(0, at).reduce((sum, group) => sum + group.length, 0)}`;
      badge.classList.toggle("placed", at >= 0);
      byId(`response-${index}`)?.classList.toggle("selected", index === selected);
    }
    if (kept) {
      const item = list.querySelector(`li[data-index="${kept[0]}"]`);
      [...(item?.querySelectorAll("button") ?? [])].find((other) => other.className === kept[1] && other.textContent === kept[2])?.focus();
    }
    if (!quiet) changed();
  }

  function lineRow() {
    return h("li", { class: "line" }, h("span", {}, "Unacceptable below here"), button("×", "Remove the line", () => { line = null; redraw(); }));
  }

  return {
    element,
    badge: (index) => h("button", { type: "button", class: "badge", id: `badge-${index}`, onclick: () => place(index) }, "Place next"),
    set(answer) {
      groups = (answer?.ranking ?? []).map((group) => group.map((handle) => handles.indexOf(handle)).filter((index) => index >= 0));
      line = answer?.acceptable_upto ?? null;
      selected = null;
      tidy();
      redraw(true);
    },
    answer: () => ({ ranking: groups.map((group) => group.map((index) => handles[index])), acceptable_upto: line }),
    problem: () => (groups.flat().length < handles.length ? "Place every response first." : null),
    summary: () => groups.map((group) => group.map(name).join(" = ")).join(" > "),
    press(event) {
      const digit = Number(event.key);
      if (digit >= 1 && digit <= handles.length) return place(digit - 1), true;
      if (event.key.toLowerCase() === "l") return drawLine(selected), true;
      if (selected === null) return false;
      if (event.key === "ArrowUp" || event.key === "ArrowLeft") return move(selected, -1), true;
      if (event.key === "ArrowDown" || event.key === "ArrowRight") return move(selected, 1), true;
      if (event.key.toLowerCase() === "t") return tie(selected), true;
      if (event.key === "Backspace" || event.key === "Delete") return remove(selected), true;
      return false;
    },
    keys: [
      [`1–${handles.length}`, "place a response next, or select it"],
      ["↑ ↓", "move the selected response"],
      ["T", "tie it with the one above, or separate it"],
      ["L", "unacceptable from the selected response on"],
      ["Backspace", "take it out of the order"],
    ],
  };
}

// ---- Several responses: the best and the worst ----------------------------------------------------------------------

function bestWorst(handles, changed) {
  const name = (index) => nameOf(index, handles.length);
  const group = (which) =>
    h(
      "div",
      { class: `scale steps-${handles.length}`, role: "radiogroup", "aria-label": `${which} response` },
      handles.map((handle, i) => choice(which, handle, name(i), `Response ${name(i)} is the ${which}`, which === "best" ? name(i) : `⇧${name(i)}`, () => choose(which, handle))),
    );
  const element = h(
    "div",
    { class: "best-worst" },
    h("div", { class: "row" }, h("span", { class: "axis" }, "Best"), group("best")),
    h("div", { class: "row" }, h("span", { class: "axis" }, "Worst"), group("worst")),
  );
  const choose = (which, handle) => {
    check(element, which, handle);
    const other = which === "best" ? "worst" : "best";
    if (checked(element, other) === handle) check(element, other, null);
    changed();
    return true;
  };
  return {
    element,
    set(answer) {
      check(element, "best", answer?.best ?? null);
      check(element, "worst", answer?.worst ?? null);
    },
    answer: () => ({ best: checked(element, "best"), worst: checked(element, "worst") }),
    problem: () => (checked(element, "best") && checked(element, "worst") ? null : "Choose the best and the worst response first."),
    summary: () => `best ${name(handles.indexOf(checked(element, "best")))}, worst ${name(handles.indexOf(checked(element, "worst")))}`,
    press(event) {
      const digit = Number(/^Digit([1-9])$/.exec(event.code)?.[1] ?? event.key);
      if (!(digit >= 1 && digit <= handles.length)) return false;
      return choose(event.shiftKey ? "worst" : "best", handles[digit - 1]);
    },
    keys: [[`1–${handles.length}`, "the best response"], [`Shift 1–${handles.length}`, "the worst response"]],
  };
}

// ---- Ratings of each response ---------------------------------------------------------------------------------------

function rating(screen, handles, changed) {
  const [low, high] = screen.rating;
  const axes = screen.axes.length ? screen.axes : ["overall"];
  const name = (index) => nameOf(index, handles.length);
  const cells = handles.flatMap((handle, i) => axes.map((axis) => ({ handle, axis, name: name(i), field: `${handle}.${axis}` })));
  let current = 0;
  const values = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  const element = h(
    "div",
    { class: "ratings" },
    handles.map((handle, i) =>
      h(
        "fieldset",
        { class: "rated" },
        h("legend", {}, `Response ${name(i)}`),
        cells
          .filter((cell) => cell.handle === handle)
          .map((cell) =>
            h(
              "div",
              { class: "row", "data-cell": cells.indexOf(cell) },
              h("span", { class: "axis" }, cell.axis),
              h(
                "div",
                { class: "scale compact", role: "radiogroup", "aria-label": `${cell.axis} of response ${cell.name}` },
                values.map((value) => choice(cell.field, value, String(value), `${cell.axis} of response ${cell.name}: ${value}`, null, () => go(cells.indexOf(cell)))),
              ),
            ),
          ),
      ),
    ),
  );
  function go(index, quiet) {
    current = Math.max(0, Math.min(cells.length - 1, index));
    for (const row of element.querySelectorAll("[data-cell]")) row.classList.toggle("current", Number(row.dataset.cell) === current);
    if (!quiet) changed();
  }
  const valueOf = (cell) => checked(element, cell.field);
  return {
    element,
    set(answer) {
      for (const cell of cells) check(element, cell.field, answer?.ratings?.[cell.handle]?.[cell.axis] ?? null);
      const open = cells.findIndex((cell) => valueOf(cell) === null);
      go(open < 0 ? 0 : open, true);
    },
    answer() {
      const ratings = {};
      for (const cell of cells) if (valueOf(cell) !== null) (ratings[cell.handle] ??= {})[cell.axis] = Number(valueOf(cell));
      return { ratings };
    },
    problem() {
      const open = cells.find((cell) => valueOf(cell) === null);
      return open ? `Rate ${open.axis} of response ${open.name} first.` : null;
    },
    summary: () => "rated",
    press(event) {
      const digit = Number(event.key);
      if (event.key !== " " && digit >= low && digit <= high) {
        check(element, cells[current].field, digit);
        go(current + 1);
        return true;
      }
      if (event.key === "ArrowUp" || event.key === "Backspace") return go(current - 1), true;
      if (event.key === "ArrowDown") return go(current + 1), true;
      return false;
    },
    keys: [[`${low}–${high}`, "the marked rating; the mark goes on"], ["↑ ↓", "the rating before or after"]],
    ratesAxes: true,
  };
}

// ---- What can be said besides the verdict ---------------------------------------------------------------------------

export function createDetails(screen, ratesAxes, count, changed) {
  const axes = ratesAxes || count !== 2 ? [] : screen.axes;
  const parts = [];
  if (axes.length) {
    parts.push(
      h(
        "fieldset",
        { class: "axes" },
        h("legend", {}, "In particular"),
        axes.map((axis) =>
          h(
            "div",
            { class: "row" },
            h("span", { class: "axis" }, axis),
            h("span", { class: "end", "aria-hidden": "true" }, "A"),
            h(
              "div",
              { class: "scale dots", role: "radiogroup", "aria-label": axis },
              [-3, -2, -1, 0, 1, 2, 3].map((value) => {
                const words = value ? `${value < 0 ? "A" : "B"} is ${STRENGTHS[Math.abs(value) - 1]} better` : "about equal";
                return choice(`axis.${axis}`, value, value ? "" : "=", `${axis}: ${words}`, null, changed);
              }),
            ),
            h("span", { class: "end", "aria-hidden": "true" }, "B"),
          ),
        ),
      ),
    );
  }
  for (const [field, legend] of [["reasons", "Reasons"], ["flags", "Problems"]]) {
    if (!screen[field].length) continue;
    parts.push(
      h(
        "fieldset",
        { class: field },
        h("legend", {}, legend),
        h("div", { class: "tags" }, screen[field].map((word) => h("label", { class: "tag" }, h("input", { type: "checkbox", name: field, value: word, onchange: () => changed() }), h("span", {}, word)))),
      ),
    );
  }
  let rationale = null;
  if (screen.rationale !== "off") {
    rationale = h("textarea", { id: "rationale", rows: "3", dir: "auto", maxlength: "20000", oninput: () => changed() });
    const needed = screen.rationale === "required" ? "required" : "optional";
    parts.push(h("div", { class: "rationale" }, h("label", { for: "rationale" }, "Why? ", h("span", { class: "note" }, needed), key("R")), rationale));
  }
  const element = h("div", { class: "details" }, parts);
  const ticked = (field) => [...element.querySelectorAll(`input[name="${field}"]:checked`)].map((input) => input.value);
  const shortest = Math.max(screen.rationale_min ?? 0, 1);
  return {
    element,
    rationale,
    isEmpty: parts.length === 0,
    set(answer) {
      for (const axis of axes) check(element, `axis.${axis}`, answer?.axes?.[axis] ?? null);
      for (const field of ["reasons", "flags"]) for (const input of element.querySelectorAll(`input[name="${field}"]`)) input.checked = (answer?.[field] ?? []).includes(input.value);
      if (rationale) rationale.value = answer?.rationale ?? "";
    },
    answer() {
      const given = Object.fromEntries(axes.map((axis) => [axis, checked(element, `axis.${axis}`)]).filter(([, value]) => value !== null).map(([axis, value]) => [axis, Number(value)]));
      return { axes: given, reasons: ticked("reasons"), flags: ticked("flags"), rationale: rationale?.value.trim() ? rationale.value.toWellFormed() : null };
    },
    problem() {
      const length = rationale ? [...rationale.value.trim()].length : 0;
      if (rationale && length < shortest && (screen.rationale === "required" || length)) {
        return shortest > 1 ? `Write at least ${shortest} characters about why (R).` : "Write why first (R).";
      }
      return null;
    },
  };
}

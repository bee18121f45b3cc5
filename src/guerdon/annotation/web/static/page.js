// Small helpers for building elements.

// h("p", { class: "note", onclick: f }, "text", child): an element. Text is text: nothing here parses HTML.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);
export const key = (name) => h("kbd", { "aria-hidden": "true" }, name);

// A radio button that looks like a button, with its key; `label` is what it means, `text` what it shows.
export function choice(name, value, text, label, keyName, onchange) {
  const input = h("input", { type: "radio", name, value, "aria-label": label, onchange });
  return h("label", { class: "choice", title: label }, input, h("span", { class: "text" }, text), keyName ? key(keyName) : null);
}

export function checked(element, name) {
  return element.querySelector(`input[name="${CSS.escape(name)}"]:checked`)?.value ?? null;
}

export function check(element, name, value) {
  for (const input of element.querySelectorAll(`input[name="${CSS.escape(name)}"]`)) input.checked = input.value === String(value);
}

// The server's API, and an outbox: an answer is written down on this device before it is sent, and removed when the server has it.

const page = document.body.dataset;
const API = `/api/v1/projects/${encodeURIComponent(page.project)}/`;
const PLACE = `guerdon.${page.project}.${page.user}.`; // of what is stored here, so that people who share a browser share nothing
const OLDEST_DRAFT = 14 * 24 * 3600 * 1000; // milliseconds
const channel = "BroadcastChannel" in window ? new BroadcastChannel(PLACE) : null;

export class Offline extends Error {}
export class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

// The answer of the server as an object; Offline where it cannot be reached now, Refused with its reason.
export async function post(path, body, key) {
  return call(path, {
    method: "POST",
    body: JSON.stringify(body ?? {}),
    headers: {
      "Content-Type": "application/json",
      "X-CSRF-Token": document.querySelector("meta[name=csrf]")?.content ?? "",
      ...(key ? { "Idempotency-Key": key } : {}),
    },
  });
}

export async function get(path) {
  return call(path, {});
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(API + path, { ...options, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Offline();
  }
  if (response.status === 429 || response.status >= 500) throw new Offline();
  let value = {};
  try {
    value = await response.json();
  } catch (error) {
    if (error instanceof TypeError) throw new Offline(); // the connection broke while it was read
  }
  if (response.ok) return value;
  throw new Refused(response.status, typeof value.error === "string" ? value.error : response.statusText);
}

export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- What is kept on this device ------------------------------------------------------------------------------------

const memory = new Map(); // where the browser refuses to store

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(PLACE + name) ?? "null");
  } catch {
    return memory.get(name) ?? null;
  }
}

function write(name, value) {
  if (/^(draft|outbox)\./.test(name)) written = toDisk(name, value).catch(() => {}); // full or blocked: the other one has it
  try {
    if (value === null) localStorage.removeItem(PLACE + name);
    else localStorage.setItem(PLACE + name, JSON.stringify(value));
    memory.delete(name);
  } catch {
    if (value === null) memory.delete(name);
    else memory.set(name, value);
  }
}

function names(prefix) {
  const stored = [];
  try {
    for (let i = 0; i < localStorage.length; i++) stored.push(localStorage.key(i));
  } catch {
    // storage is blocked
  }
  const own = stored.filter((name) => name.startsWith(PLACE + prefix)).map((name) => name.slice(PLACE.length));
  return [...new Set([...own, ...[...memory.keys()].filter((name) => name.startsWith(prefix))])];
}

// A browser writes localStorage to the disk seconds later, so that what was stored last dies with it. IndexedDB has on the disk what
// it says it has. What people chose and answered is in both: in the first for all tabs to see at once, in the second for good.

let database = null; // a promise of it, or of null where the browser refuses
let written = Promise.resolve();

function disk() {
  database ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open("guerdon", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("kept");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
      setTimeout(() => resolve(null), 2000); // better without than never
    } catch {
      resolve(null);
    }
  });
  return database;
}

async function toDisk(name, value) {
  const opened = await disk();
  if (!opened) return;
  const transaction = opened.transaction("kept", "readwrite", { durability: name.startsWith("outbox") ? "strict" : "relaxed" });
  const kept = transaction.objectStore("kept");
  if (value === null) kept.delete(PLACE + name);
  else kept.put(value, PLACE + name);
  await new Promise((resolve) => (transaction.oncomplete = transaction.onabort = resolve));
}

// Resolves when the disk has all that was to be kept.
export const onDisk = () => written;

// What the browser lost when it ended without warning, from the disk.
export async function restore() {
  const opened = await disk();
  if (!opened) return;
  const request = opened.transaction("kept").objectStore("kept").openCursor(IDBKeyRange.bound(PLACE, `${PLACE}\uffff`));
  await new Promise((resolve) => {
    request.onerror = resolve;
    request.onsuccess = () => {
      if (!request.result) return resolve();
      const name = request.result.key.slice(PLACE.length);
      if ((read(name)?.at ?? 0) < request.result.value.at) write(name, request.result.value);
      request.result.continue();
    };
  });
}

export const setting = (name, fallback) => read(`setting.${name}`) ?? fallback;
export const keepSetting = (name, value) => write(`setting.${name}`, value);

export const draft = (presentation) => read(`draft.${presentation}`);
export const keepDraft = (presentation, value) => write(`draft.${presentation}`, value && { ...value, at: Date.now() });

export function dropOldDrafts() {
  for (const name of names("draft.")) if (Date.now() - (read(name)?.at ?? 0) > OLDEST_DRAFT) write(name, null);
}

// Answers that the server does not have yet, oldest first. Each has a name of its own: two tabs never write the same one.
export function outbox() {
  return names("outbox.").map(read).filter(Boolean).sort((a, b) => a.at - b.at);
}

export const isKept = (entry) => read(`outbox.${entry.key}`) !== null;
export const keep = (entry) => write(`outbox.${entry.key}`, entry);
export const drop = (entry) => write(`outbox.${entry.key}`, null);

// Runs the function in one tab at a time, where the browser can arrange that. The server takes a repeated answer once in any case.
export async function alone(work) {
  return navigator.locks ? navigator.locks.request(PLACE + "outbox", work) : work();
}

// Tells the other tabs that an item is answered, and is told so by them.
export const tellTabs = (presentation) => channel?.postMessage({ answered: presentation });
export function onAnsweredElsewhere(react) {
  channel?.addEventListener("message", (event) => event.data?.answered !== undefined && react(event.data.answered));
}

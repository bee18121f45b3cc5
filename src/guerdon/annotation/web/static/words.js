// Texts on the page: hidden characters written out, and the words in which two texts differ.

// The same characters as HIDDEN in guerdon/errors.py.
const HIDDEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e01ef}]|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])/gu;
const WORD = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;
const MOST_CHANGES = 1000;

// The text, each hidden character inside a mark that shows its number: what is copied is the text, byte by byte.
export function exact(text) {
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match[0] === "\r" && text[match.index + 1] === "\n") continue;
    fragment.append(text.slice(end, match.index));
    const mark = document.createElement("span");
    mark.className = "hidden exact";
    mark.dataset.code = `U+${match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    mark.append(match[0]);
    fragment.append(mark);
    end = match.index + match[0].length;
  }
  fragment.append(text.slice(end));
  return fragment;
}

export function countWords(text) {
  return text.split(/\s+/u).filter(Boolean).length;
}

// Two texts as lists of [words, whether the other text lacks them]; null where they differ too much to be compared.
export function differences(first, second) {
  const a = first.match(WORD) || [];
  const b = second.match(WORD) || [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const kept = common(a.slice(start, a.length - end), b.slice(start, b.length - end));
  if (kept === null) return null;
  const inA = new Set(kept.map(([i]) => i + start));
  const inB = new Set(kept.map(([, j]) => j + start));
  const isCommon = (i, length, known) => i < start || i >= length - end || known.has(i);
  return [runs(a, (i) => !isCommon(i, a.length, inA)), runs(b, (i) => !isCommon(i, b.length, inB))];
}

function runs(words, isOwn) {
  const parts = [];
  words.forEach((word, i) => {
    const own = isOwn(i);
    if (parts.length && parts.at(-1)[1] === own) parts.at(-1)[0] += word;
    else parts.push([word, own]);
  });
  return parts;
}

// Pairs of places of the longest common subsequence (Myers 1986, An O(ND) Difference Algorithm). codespell:ignore
function common(a, b) {
  const size = Math.min(a.length + b.length, MOST_CHANGES);
  const reach = new Int32Array(2 * size + 3);
  const trace = [];
  for (let d = 0; d <= size; d++) {
    trace.push(reach.slice());
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[size + k] < reach[size + k + 2]);
      let x = down ? reach[size + k + 2] : reach[size + k] + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) x++, y++;
      reach[size + k + 1] = x;
      if (x >= a.length && y >= b.length) return walkBack(a, b, trace, size, d);
    }
  }
  return null;
}

function walkBack(a, b, trace, size, last) {
  const pairs = [];
  let x = a.length;
  let y = b.length;
  for (let d = last; d >= 0; d--) {
    const reach = trace[d];
    const k = x - y;
    const down = k === -d || (k !== d && reach[size + k] < reach[size + k + 2]);
    const from = down ? k + 1 : k - 1;
    const startX = d === 0 ? 0 : reach[size + from + 1];
    const startY = d === 0 ? 0 : startX - from;
    while (x > startX && y > startY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) pairs.push([--x, --y]);
    x = startX;
    y = startY;
  }
  return pairs;
}

// Makes elements from data. Data becomes text and attributes only; no function parses markup.
import { t } from "./words.js";

/** Makes an element: `h("p.muted", { onclick }, "text", node)`. Skips null, false and undefined. */
export function h(what, props = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  return dress(node, props, children);
}

/** Makes an SVG element, like `h`. */
export function svg(what, props = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  return dress(node, props, children);
}

function dress(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** Updates children by key. Only children with changed data are replaced, so focus and scroll stay. */
export function keyed(parent, items, keyOf, make) {
  const before = new Map([...parent.children].map((node) => [node.flKey, node]));
  const after = items.map((item) => {
    const key = String(keyOf(item));
    const data = JSON.stringify(item);
    const known = before.get(key);
    if (known?.flData === data) return known;
    const node = make(item);
    node.flKey = key;
    node.flData = data;
    return node;
  });
  for (const node of [...parent.children]) if (!after.includes(node)) node.remove();
  after.forEach((node, at) => {
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null);
  });
}

/** Calls `make` only when `data` has changed, so sections neither flicker nor lose focus. */
export function once(make) {
  let last;
  return (data) => {
    const now = JSON.stringify(data);
    if (now === last) return;
    last = now;
    make(data);
  };
}

/** Makes a card with a heading; a section fills its body. */
export function card(title, ...body) {
  const id = `h-${title.toLowerCase().replaceAll(/[^\p{L}]+/gu, "-")}`;
  return h("section.card", { "aria-labelledby": id }, h("header", {}, h("h2", { id }, title)), body);
}

let hush;
/** Shows a short message at the bottom of the page; screen readers read it, too. */
export function say(text) {
  const place = document.getElementById("say");
  place.textContent = text;
  clearTimeout(hush);
  hush = setTimeout(() => place.replaceChildren(), 4000);
}

/** Makes a button that copies a text; `label` says to screen readers what. */
export function copyButton(text, label) {
  const copy = async () => {
    await toClipboard(text);
    say(t("Copied."));
  };
  return h("button.tiny", { type: "button", "aria-label": label, onclick: copy }, t("Copy"));
}

async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers offer the clipboard on https and localhost only; elsewhere this old command works.
  const area = h("textarea.sr", { readonly: true }, text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// The labels of the examples of each client that shares their counts: a bar, and a line of words.
import { card, h, once, svg } from "./dom.js";
import { count, percent, plural } from "./format.js";
import { t } from "./words.js";

const COLOURS = 16; // labels that can be told apart; the rarest of more stand together
const NAMED = 3; // labels in a line of words
const MOST = 100; // clients with a bar
const WIDTH = 1000; // of a bar, in its own units
const GAP = 2;

export function labelsSection() {
  const note = h("p.muted");
  const legend = h("ul.legend");
  const bars = h("ul.labels");
  const heads = h("tr");
  const rows = h("tbody");
  const numbers = h("details.small", {}, h("summary", {}, t("As a table")),
    h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("Labels as a table") },
      h("table", {}, h("thead", {}, heads), rows)));
  const title = t("Labels of the examples");
  const node = card(title, note, legend, h("div.scroll", { tabindex: "0", role: "group", "aria-label": title }, bars), numbers);
  const show = once(({ asked, clients }) => {
    node.classList.toggle("hidden", !asked || !clients.length);
    const sharing = clients.filter(({ labels }) => Object.keys(labels).length);
    note.textContent = noteOf(sharing.length, clients.length);
    for (const part of [legend, bars.parentNode, numbers]) part.classList.toggle("hidden", !sharing.length);
    if (!sharing.length) return;
    const all = sumOf(sharing);
    const colours = coloursOf(all);
    const lines = sharing.map(({ id, name, labels }) => ({ name: name || id, labels }));
    if (lines.length > 1) lines.unshift({ name: t("All of them"), labels: all });
    legend.replaceChildren(...[...colours.keys(), ...(Object.keys(all).length > colours.size ? [null] : [])].map((label) =>
      h(`li.${colours.get(label) ?? "rest"}`, {}, h("i.block"), h("span", {}, label ?? t("others")))));
    bars.replaceChildren(...lines.slice(0, MOST + 1).map((line) => h("li", {},
      h("b", {}, line.name), bar(line.labels, colours), h("span.small.muted", {}, wordsOf(line.labels)))));
    heads.replaceChildren(...[t("Client"), ...Object.keys(all)].map((name) => h("th", { scope: "col" }, name)));
    rows.replaceChildren(...lines.map((line) => h("tr", {}, h("td", {}, line.name),
      Object.keys(all).map((label) => h("td", {}, label in line.labels ? count(line.labels[label]) : "–")))));
  });
  const update = ({ config }, clients) => show({
    asked: config.label_counts === "asked", clients: clients.map(({ id, name, labels }) => ({ id, name, labels })),
  });
  return { node, update };
}

function noteOf(sharing, all) {
  if (!sharing) return t("No client has shared the labels of its examples: a party does so with --share-labels.");
  const several = sharing > MOST ? ` ${t("The first {n} have a bar.", { n: count(MOST) })}` : "";
  return plural(sharing, "{n} client of {all} shares the labels of its examples.", "{n} clients of {all} share the labels of their examples.",
    { all: count(all) }) + several;
}

const totalOf = (labels) => Object.values(labels).reduce((a, b) => a + b, 0);

/** The counts of all, in the order in which the clients name the labels. */
function sumOf(clients) {
  const all = {};
  for (const { labels } of clients) for (const [label, n] of Object.entries(labels)) all[label] = (all[label] ?? 0) + n;
  return all;
}

/** A class for each label that has a colour of its own. */
function coloursOf(all) {
  const labels = Object.keys(all);
  const kept = labels.length <= COLOURS ? labels : labels.toSorted((a, b) => all[b] - all[a]).slice(0, COLOURS - 1);
  return new Map(labels.filter((label) => kept.includes(label)).map((label, at) => [label, `s${at}`]));
}

/** The shares of a client's labels, from left to right in the order of the legend. */
function bar(labels, colours) {
  const total = totalOf(labels) || 1;
  const others = totalOf(Object.fromEntries(Object.entries(labels).filter(([label]) => !colours.has(label))));
  let x = 0;
  const part = (colour, name, n) => {
    const width = (n / total) * WIDTH;
    const rect = svg(`rect.${colour}`, { x, y: 0, width: Math.max(width - GAP, width / 2), height: 1 },
      svg("title", {}, `${name}: ${count(n)} (${percent(n / total)})`));
    x += width;
    return rect;
  };
  const parts = [...colours].filter(([label]) => labels[label]).map(([label, colour]) => part(colour, label, labels[label]));
  if (others) parts.push(part("rest", t("others"), others));
  return svg("svg.bar", { viewBox: `0 0 ${WIDTH} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}

function wordsOf(labels) {
  const total = totalOf(labels);
  const sorted = Object.entries(labels).filter(([, n]) => n).toSorted(([, a], [, b]) => b - a);
  const named = sorted.slice(0, NAMED).map(([label, n]) => `${label} (${percent(n / total)})`).join(", ");
  const more = sorted.length - NAMED;
  const words = more > 0 ? t("{named} and {n} more", { named, n: count(more) }) : named;
  return `${plural(total, "{n} example", "{n} examples")}${words && `: ${words}`}.`;
}

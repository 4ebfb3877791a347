// A line chart in SVG. The pointer or the arrow keys move a cursor; the legend shows its values.
import { h, keyed, svg } from "./dom.js";
import { t } from "./words.js";

const HEIGHT = 230;
const DIGIT = 7.5; // the widest that a character of the y axis gets
const EDGE = { left: 48, right: 14, top: 10, bottom: 26 };
const MANY = 60; // with more points, only the cursor's point has a mark

/**
 * `update(series, { last, newest, best })` draws series from `seriesOf`, with x from 0 to `last`.
 * `newest` is the last x that there is, measured or not; `best` is the `[x, y]` that gets a mark.
 *
 * `format` writes values, and `tick` the figures of y. The y axis stays within `bounds`, where they
 * are not null; with `zero` it begins at 0. `what` names the unit of x, and `unit` that of y.
 */
export function lineChart(title, { format, bounds = [null, null], tick = format, zero = false, what = t("Model"), unit = "" }) {
  const plot = svg("svg", { height: HEIGHT, "aria-hidden": "true" });
  const legend = h("ul.legend");
  const place = h("p.small.muted.num", { "aria-live": "polite" });
  const table = h("tbody");
  const names = h("tr");
  const empty = h("p.empty", {}, t("Nothing has been measured yet."));
  const frame = h("div.chart", {
    tabindex: "0", role: "group", "aria-label": t("{title}. Left and right arrows move along the rounds.", { title }),
  }, unit && h("p.small.muted", {}, unit), plot, legend, place);
  const numbers = h("details.small", {}, h("summary", {}, t("As a table")),
    h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("{title} as a table", { title }) },
      h("table", {}, h("thead", {}, names), table)));
  const node = h("div", {}, empty, frame, numbers);

  let series = [];
  let last = 1;
  let newest = null; // the last x that there is; it may not have been measured
  let best = null;
  let cursor = null; // a value of x; null: the newest
  let left = EDGE.left; // where the plot begins, beside the figures of y

  const xs = () => [...new Set(series.flatMap((s) => s.points.map(([x]) => x)))].sort((a, b) => a - b);
  const at = () => cursor ?? xs().at(-1);
  const valueAt = (s, x) => s.points.find(([px]) => px === x)?.[1];

  /** The value at x; without a cursor, of a series that ends before x, its own last one. */
  const valueText = (s, x) => {
    const value = valueAt(s, x);
    if (value !== undefined) return format(value);
    const [last, own] = s.points.at(-1);
    return cursor === null ? `${format(own)} (${what.toLowerCase()} ${last})` : "–";
  };
  const newestNote = (x) => (newest === null || newest <= x ? t("(newest)")
    : t("(the newest measured; {what} {newest} is newer)", { what: what.toLowerCase(), newest }));
  const bestNote = () => (best ? t("best: {value} of {what} {number} ★", { value: format(best[1]), what: what.toLowerCase(), number: best[0] }) : "");

  const draw = () => {
    const any = xs().length > 0;
    empty.classList.toggle("hidden", any);
    frame.classList.toggle("hidden", !any);
    numbers.classList.toggle("hidden", !any);
    if (!any) return;
    const x = at();
    const where = [`${what} ${x}`, cursor === null && newestNote(x)].filter(Boolean).join(" ");
    place.textContent = [where, bestNote()].filter(Boolean).join(" · ");
    legend.replaceChildren(...series.map((s, i) => s.points.length > 0 && h(`li.s${i}`, {}, h("i.swatch"),
      h("span", {}, s.name), h("b", {}, valueText(s, x)))).filter(Boolean));
    left = drawPlot(plot, frame.clientWidth, series, { last, x, tick, bounds, zero, best }) ?? left;
  };
  const move = (x) => {
    cursor = x;
    draw();
  };
  const step = (by) => {
    const all = xs();
    move(all[Math.max(0, Math.min(all.length - 1, all.indexOf(at()) + by))]);
  };
  frame.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") move(null);
    if (!(event.key in steps)) return;
    event.preventDefault();
    step(steps[event.key]);
  });
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left - left) / (box.width - left - EDGE.right);
    const all = xs();
    move(all.reduce((best, x) => (Math.abs(x - share * last) < Math.abs(best - share * last) ? x : best), all[0]));
  });
  plot.addEventListener("pointerleave", () => move(null));
  new ResizeObserver(draw).observe(node);

  const update = (news, about = {}) => {
    series = news;
    last = Math.max(about.last ?? 1, ...xs(), 1);
    newest = about.newest ?? null;
    best = about.best ?? null;
    if (cursor !== null && !xs().includes(cursor)) cursor = null;
    const shown = series.filter((s) => s.points.length);
    names.replaceChildren(h("th", { scope: "col" }, what), ...shown.map((s) => h("th", { scope: "col" }, s.name)));
    const rows = xs().map((x) => [x, ...shown.map((s) => valueAt(s, x))]);
    keyed(table, rows, ([x]) => x, ([x, ...values]) => h("tr", {}, h("td", {}, x),
      values.map((v) => h("td", {}, v === undefined || v === null ? "–" : format(v)))));
    draw();
  };
  return { node, update };
}

/** Draws the plot; returns its left edge, which leaves room for the longest figure of y. */
function drawPlot(plot, width, series, { last, x: cursor, tick, bounds, zero, best }) {
  if (width < 1) return null; // the chart is not on the page yet
  plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const values = series.flatMap((s) => s.points.map(([, y]) => y));
  if (zero) values.push(0);
  const [low, high, step] = scale(Math.min(...values), Math.max(...values), bounds);
  const ticks = [];
  for (let y = low; y <= high + step / 2; y += step) ticks.push([y, tick(Number(y.toPrecision(6)))]);
  const left = Math.max(EDGE.left, 12 + DIGIT * Math.max(...ticks.map(([, text]) => text.length)));
  // The last figure of x stands in the middle below its point.
  const right = Math.max(EDGE.right, 4 + (DIGIT / 2) * String(last).length);
  const px = (x) => left + (x / last) * (width - left - right);
  const py = (y) => HEIGHT - EDGE.bottom - ((y - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const parts = [];
  for (const [y, text] of ticks) {
    parts.push(svg("line.grid", { x1: left, x2: width - right, y1: py(y), y2: py(y) }),
      svg("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, text));
  }
  const [, , stride] = scale(0, last, [0, null], Math.max(2, Math.floor(width / 70)));
  for (let x = 0; x <= last; x += Math.max(1, stride)) {
    parts.push(svg("text", { x: px(x), y: HEIGHT - 6, "text-anchor": "middle" }, x));
  }
  parts.push(svg("line.cursor", { x1: px(cursor), x2: px(cursor), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
  series.forEach((s, i) => {
    const d = s.points.map(([x, y], n) => `${n ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    const marked = s.points.filter(([x]) => x === cursor || s.points.length <= MANY);
    parts.push(svg(`g.s${i}`, {}, svg("path", { d }), marked.map(([x, y]) =>
      svg(x === cursor ? "circle.on" : "circle", { cx: px(x), cy: py(y), r: x === cursor ? 5 : 3 }))));
  });
  if (best) parts.push(svg("text.best", { x: px(best[0]), y: py(best[1]) + (py(best[1]) < 28 ? 22 : -9), "text-anchor": "middle" }, "★"));
  plot.replaceChildren(...parts);
  return left;
}

/** The lowest and the highest grid line, and their step: 1, 2 or 5 times a power of ten. */
function scale(min, max, [floor, ceiling], lines = 5) {
  const spread = max - min || Math.abs(max) || 1;
  const raw = spread / lines;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const low = Math.max(Math.floor(min / step) * step, floor ?? -Infinity);
  let high = Math.ceil(max / step) * step;
  if (high === low) high = low + step;
  return [low, Math.min(high, ceiling ?? Infinity), step];
}

// What was done to the experiment and by whom: for the admin, where the coordinator keeps a log.
import { experimentPath, get } from "./api.js";
import { card, h, keyed } from "./dom.js";
import { when, words } from "./format.js";
import { adminKey } from "./key.js";

const PAGE = 200;
const TIMES = ["at", "time", "when", "created_at"];

export function auditSection(id) {
  const list = h("tbody");
  const more = h("button.tiny", { type: "button" }, "More");
  const node = card("Audit log",
    h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Audit log" }, h("table", {}, list)), h("div.row", {}, more));
  node.classList.add("hidden");
  const entries = [];
  let seen = null;

  const fetchPage = async () => {
    const last = entries.at(-1);
    const after = last ? `&after=${encodeURIComponent(last.id ?? last.number ?? last.key ?? entries.length)}` : "";
    const answer = await get(`${experimentPath(id)}/audit?limit=${PAGE}${after}`);
    const page = Array.isArray(answer) ? answer : (answer.entries ?? []);
    entries.push(...page);
    more.classList.toggle("hidden", page.length < PAGE);
    node.classList.remove("hidden");
    keyed(list, entries.map((entry, at) => ({ at, entry })), ({ at }) => at, row);
  };
  const attempt = () => fetchPage().catch(() => node.classList.toggle("hidden", !entries.length));
  more.addEventListener("click", attempt);
  const update = (view) => {
    const now = adminKey() && `${view.state} ${view.enrolled} ${view.round}`;
    if (!now) node.classList.add("hidden");
    if (now && now !== seen) attempt();
    seen = now;
  };
  return { node, update };
}

/** The log's own fields, whichever there are: the time first, then the rest by name. */
function row({ entry }) {
  const time = TIMES.find((name) => name in entry);
  const rest = Object.entries(entry).filter(([name, value]) => name !== time && value !== null && value !== "");
  return h("tr", {}, h("td.muted", {}, time ? moment(entry[time]) : ""),
    h("td", {}, rest.map(([name, value]) => h("span", {}, h("span.muted", {}, `${words(name)} `), `${display(value)}  `))));
}

const moment = (value) => (typeof value === "number" ? when(value * 1000) : when(value));
const display = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

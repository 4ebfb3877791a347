// The audit log of the experiment, for people that may read it.
import { experimentPath, get } from "./api.js";
import { card, h, keyed } from "./dom.js";
import { when } from "./format.js";
import { t } from "./words.js";

const PAGE = 200;

export function auditSection(id) {
  const body = h("tbody");
  const more = h("button.tiny", { type: "button", onclick: () => look() }, t("Show more"));
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("Audit log") },
    h("table", {}, h("thead", {}, h("tr", {},
      [t("When"), t("Who"), t("What"), t("Detail")].map((name) => h("th", { scope: "col" }, name)))), body));
  const node = card(t("Audit log"), table, h("div.row", {}, more));
  node.classList.add("hidden");
  const events = [];
  let seen = null;
  let busy = false;
  let allowed = false;

  /** Fetches the events after the last one on the page. */
  const look = async () => {
    if (busy) return;
    busy = true;
    try {
      const after = encodeURIComponent(events.at(-1)?.cursor ?? "");
      const page = await get(`${experimentPath(id)}/audit?limit=${PAGE}&after=${after}`);
      events.push(...page);
      more.classList.toggle("hidden", page.length < PAGE);
      node.classList.toggle("hidden", !allowed);
      keyed(body, events, (event) => event.cursor, row);
    } catch (error) {
      if (error.status !== 404) seen = null; // try again with the next view; 404: there is no log
    }
    busy = false;
  };
  const update = (view) => {
    allowed = view.rights.reads;
    if (!allowed) node.classList.add("hidden");
    const now = allowed && `${view.state} ${view.enrolled} ${view.round} ${view.evaluations} ${view.config.budget_usd}`;
    if (now && now !== seen) look();
    seen = now;
  };
  return { node, update };
}

function row({ at, who, what, round, clients, detail }) {
  const about = [round === null ? "" : t("round {round}", { round }), clients.join(", "), detail];
  return h("tr", {}, h("td", {}, when(at)), h("td", {}, who), h("td", { lang: "en" }, what.replaceAll("-", " ")),
    h("td.wrap", {}, about.filter(Boolean).join(" · ")));
}

// The model versions with their hashes. With a key in the tab, the user can download them.
import { experimentPath, get } from "./api.js";
import { card, copyButton, h, keyed, say } from "./dom.js";
import { download } from "./download.js";
import { bytes, when } from "./format.js";
import { bestModel, mainSeries, metricNames, seriesOf, titleOf, valueText } from "./metrics.js";
import { t } from "./words.js";

/** The models of an experiment; `refresh(view)` fetches the versions that are new in a view. */
export function modelsOf(id) {
  const known = new Map();
  let seen = "";
  const catalogue = {
    models: [],
    async refresh(view) {
      const now = `${view.model_version} ${view.evaluations}`;
      if (now === seen) return false;
      seen = now;
      // Evaluations come after their models, so the last few versions are fetched again.
      const newest = Math.max(...known.keys());
      const all = view.ended_at || view.config.keep_models; // any version may be deleted by now
      const after = known.size && !all ? Math.max(-1, newest - 3) : -1;
      try {
        for (const model of await get(`${experimentPath(id)}/models?after=${after}`)) known.set(model.version, model);
      } catch (error) {
        seen = ""; // try again with the next view
        throw error;
      }
      catalogue.models = [...known.values()].sort((a, b) => a.version - b.version);
      return true;
    },
  };
  return catalogue;
}

export function modelsSection(id) {
  const body = h("tbody");
  const note = h("p.muted.small");
  const measured = h("th", { scope: "col" });
  const column = (name) => h("th", { scope: "col" }, name || h("span.sr", {}, t("Actions")));
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("Model versions") },
    h("table", {}, h("thead", {}, h("tr", {},
      [t("Version"), "SHA-256", t("Size")].map(column), measured, [t("Made"), ""].map(column))), body));
  const node = card(t("Model versions"), note, table);
  const update = (view, models) => {
    const key = view.rights.reads;
    table.classList.toggle("hidden", !models.length);
    note.textContent = models.length === 0 ? t("The initial weights have not been uploaded yet.")
      : key ? t("Version 0 is the initial model; round n makes version n.")
        : t("Version 0 is the initial model; round n makes version n. A download needs a key or token: log in.");
    const [metric] = metricNames(view, models);
    const series = mainSeries(seriesOf(view, models, metric));
    const values = new Map(series?.points);
    const best = bestModel(view, models)?.version;
    measured.textContent = titleOf(metric);
    measured.title = series?.name ?? "";
    const rows = models.toReversed().map(({ evaluations, ...m }) => ({
      ...m, key, best: m.version === best, newest: m.version === view.model_version,
      value: values.has(m.version) ? valueText(metric, values.get(m.version)) : "–",
    }));
    keyed(body, rows, (m) => m.version, (model) => row(id, model));
  };
  return { node, update };
}

function row(id, { version, sha256, size, created_at, kept, key, best, newest, value }) {
  const fetchIt = async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await download(id, { version, sha256, size });
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  };
  const take = h("button.tiny", { type: "button", "aria-label": t("Download model {version}", { version }), onclick: fetchIt }, t("Download"));
  return h("tr", {}, h("td", {}, `${version} `, best && h("span.tag", {}, t("★ best")), newest && h("span.tag", {}, t("newest"))), h("td", {}, h("code", { title: sha256 }, `${sha256.slice(0, 12)}…`)),
    h("td", {}, bytes(size)), h("td", {}, value), h("td", {}, when(created_at)),
    h("td.right", {}, h("div.row", {}, copyButton(sha256, t("Copy hash of model {version}", { version })),
      key && (kept ? take : h("span.muted.small", {}, t("not kept"))))));
}

// The list of all experiments, the newest on top.
import { get } from "./api.js";
import { h, keyed } from "./dom.js";
import { stateName, when } from "./format.js";
import { adminKey, onKeyChange } from "./key.js";
import { repeat } from "./live.js";

const PAGE = 1000;
const ENDED = new Set(["completed", "failed", "stopped"]);

export function listView(main) {
  const list = h("ul.list");
  const note = h("p.muted", { role: "status" }, "Loading …");
  const create = h("a.button.primary", { href: "#/new" }, "New experiment");
  main.append(
    h("div.head", {}, h("div.title", {}, h("h1", {}, "Experiments"), h("span.spacer"), create)),
    note,
    list,
  );
  const showKey = () => create.classList.toggle("hidden", !adminKey());
  showKey();

  const known = new Map();
  const look = async () => {
    try {
      await fetchNews(known);
    } catch (error) {
      note.textContent = `${error.message} Trying again.`;
      return;
    }
    note.textContent = known.size ? "" : "There is none yet. With the admin key you can create one.";
    keyed(list, [...known.values()].reverse(), (e) => e.id, entry);
  };
  const stop = repeat(look, () => ([...known.values()].some((e) => !ENDED.has(e.state)) ? 3 : 10));
  const unlisten = onKeyChange(showKey);
  return () => {
    stop();
    unlisten();
  };
}

/** Fetches the experiments from the first one on that has not ended; those before it do not change. */
async function fetchNews(known) {
  let after = "";
  for (const experiment of known.values()) {
    if (!ENDED.has(experiment.state)) break;
    after = experiment.id;
  }
  let page;
  do {
    page = await get(`v1/experiments?limit=${PAGE}&after=${encodeURIComponent(after)}`);
    for (const experiment of page) known.set(experiment.id, experiment);
    after = page.at(-1)?.id;
  } while (page.length === PAGE);
}

function entry(experiment) {
  const { id, name, state, round, rounds } = experiment;
  const done = state === "completed" ? rounds : (experiment.model_version ?? 0);
  return h("li", {},
    h("a", { href: `#/experiments/${encodeURIComponent(id)}` },
      h("div.line", {}, h("strong", {}, name), h(`span.badge.${state}`, {}, stateName(state))),
      h("progress", { max: rounds, value: done, "aria-label": `Rounds done of ${name}` }),
      h("div.line.small.muted", {},
        h("span.num", {}, round ? `Round ${round} of ${rounds}` : `${rounds} rounds, none begun`),
        h("span", {}, `${when(experiment.created_at)} · `, h("span.mono", {}, id)))));
}

// One experiment, put together from its sections; each takes the newest view.
import { experimentPath, post } from "./api.js";
import { auditSection } from "./audit.js";
import { clientsSection } from "./clients.js";
import { configSection } from "./config.js";
import { confirm } from "./confirm.js";
import { copyButton, h, once, say } from "./dom.js";
import { stateName, when } from "./format.js";
import { joinSection } from "./join.js";
import { adminKey, onKeyChange } from "./key.js";
import { follow } from "./live.js";
import { chartsSection } from "./metrics.js";
import { modelsSection, modelsOf } from "./models.js";
import { predictSection } from "./predict.js";
import { roundSection } from "./round.js";
import { tilesSection } from "./tiles.js";

export function experimentView(main, id) {
  const problem = h("p.fault", { role: "alert" });
  const head = headSection();
  const tiles = tilesSection();
  const charts = chartsSection();
  const round = roundSection();
  const join = joinSection(id);
  const predict = predictSection(id);
  const models = modelsSection(id);
  const clients = clientsSection(id);
  const config = configSection();
  const audit = auditSection(id);
  const sections = [head, tiles, charts, round, join, predict, models, clients, config, audit];
  main.append(h("a", { href: "#/" }, "← All experiments"), problem, h("p.muted", {}, "Loading …"));

  const catalogue = modelsOf(id);
  let view = null;
  const showAll = () => {
    if (!view) return;
    for (const section of sections) section.update(view, catalogue.models);
  };
  const show = (news) => {
    problem.textContent = "";
    if (!view) {
      document.title = `${news.name} · Federated learning`;
      main.lastChild.replaceWith(head.node, tiles.node, charts.node,
        h("div.pair", {}, round.node, join.node), predict.node, models.node, clients.node, config.node, audit.node);
    }
    view = news;
    showAll();
    catalogue.refresh(news).then((changed) => changed && showAll(), fail);
  };
  const fail = (error) => {
    problem.textContent = error.message;
    if (error.status === 404 && !view) main.lastChild.textContent = "";
  };
  const stop = follow(id, show, fail);
  const unlisten = onKeyChange(showAll);
  return () => {
    stop();
    unlisten();
    round.end();
  };
}

/** Name, state, the sentence of what is going on, and the button that stops it all. */
function headSection() {
  const node = h("div.head");
  const sentence = h("p.sentence", { role: "status" });
  const bar = h("progress", { "aria-label": "Rounds done" });
  const show = once(({ id, name, state, created_at, admin }) => {
    const stop = h("button.danger", { type: "button", onclick: () => confirmStop(id, name) }, "Stop …");
    node.replaceChildren(
      h("div.title", {},
        h("h1", {}, name), h(`span.badge.${state}`, {}, stateName(state)),
        h("span.spacer"), admin && stop),
      h("div.row.small.muted", {}, h("code", {}, id), copyButton(id, "experiment id"),
        h("span", {}, `created ${when(created_at)}`)),
      sentence, bar);
  });
  const update = (view) => {
    const { id, name, state, created_at } = view;
    show({ id, name, state, created_at, admin: Boolean(adminKey()) && !view.ended_at });
    // The time left runs on beside the round; in a sentence it would stand still.
    const text = view.progress.replace(/, \d+ s left/, "");
    if (sentence.textContent !== text) sentence.textContent = text;
    bar.max = view.config.rounds;
    bar.value = state === "completed" ? view.config.rounds : (view.model_version ?? 0);
  };
  return { node, update };
}

function confirmStop(id, name) {
  const question = {
    title: `Stop “${name}”?`,
    text: "It cannot be started again. Its models stay and can be downloaded.",
    yes: "Stop it",
    no: "Keep it running",
  };
  confirm(question, async () => {
    await post(`${experimentPath(id)}/stop`);
    say("The experiment is stopped.");
  });
}

// The most important figures of an experiment.
import { h, once } from "./dom.js";
import { bytes, count, plural, usd } from "./format.js";
import { bestModel, mainSeries, metricNames, seriesOf, titleOf, valueText } from "./metrics.js";
import { privacyTile } from "./privacy.js";
import { areHidden } from "./rounds.js";
import { t } from "./words.js";

export function tilesSection() {
  const node = h("dl.tiles");
  const show = once((tiles) => {
    node.replaceChildren(...tiles.map(([name, value, note]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value), note && h("dd.note", {}, note))));
  });
  const update = (view, models) => {
    const { config, history } = view;
    const received = history.reduce((sum, round) => sum + round.update_bytes, 0);
    const size = models[0]?.size ?? 0;
    const hidden = areHidden(view);
    const sent = history.reduce((sum, round) => sum + round.accepted * size, 0);
    show([
      ...metricNames(view, models).slice(0, 2).map((metric) => [titleOf(metric), ...newest(view, models, metric)]),
      ...bestTile(view, models),
      [t("Round"), t("{n} of {all}", { n: count(view.round), all: count(config.rounds) }), plural(config.clients_per_round, "{n} client each", "{n} clients each")],
      [t("Clients"), t("{n} of {all}", { n: count(view.enrolled), all: count(config.clients) }), t("enrolled")],
      ...(hidden ? [] : [[t("Cost on Lambda"), usd(view.cost.usd), budget(view.cost)]]),
      ...privacyTile(view),
      ...(hidden ? [] : [[t("Updates received"), bytes(received), t("at least {size} of models sent", { size: bytes(sent) })]]),
    ]);
  };
  return { node, update };
}

const budget = ({ budget_usd }) => (budget_usd === null ? t("if it ran there; an estimate") : t("of {budget}; an estimate", { budget: usd(budget_usd) }));

/** The last value of a metric, and which model and data it is of. */
function newest(view, models, metric) {
  const found = mainSeries(seriesOf(view, models, metric));
  if (!found) return ["–", t("nothing measured yet")];
  const [version, value] = found.points.at(-1);
  return [valueText(metric, value), t("model {version}, {source}", { version, source: found.name })];
}

function bestTile(view, models) {
  const best = bestModel(view, models);
  return best ? [[t("Best model"), `${best.version} ★`, `${titleOf(best.metric)} ${valueText(best.metric, best.value)}`]] : [];
}

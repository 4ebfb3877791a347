// Metrics of any name: what has been measured, of which model version, and how to write it.
import { number, percent, share, words } from "./format.js";
import { t } from "./words.js";

const BEFORE = "_before"; // ends the name of what a client measures of the global model before it trains
const AFTER = /_after$/; // measured of a client's own model
const RATES = new Set(["accuracy", "precision", "recall", "f1", "auc"]); // serverless_fl/domain/metrics.py
const FIRST = ["accuracy", "loss"];
const COMMON = { accuracy: t("Accuracy"), loss: t("Loss") };

/** The names of all that has been measured, the goal's metric first. */
export function measuredNames({ goal, history }, models) {
  const found = new Set();
  for (const { metrics } of history) {
    for (const name of Object.keys(metrics)) if (!AFTER.test(name)) found.add(bare(name));
  }
  for (const { evaluations } of models) {
    for (const { metrics } of evaluations) for (const name of Object.keys(metrics)) found.add(name);
  }
  const first = [goalMetric(goal), ...FIRST];
  const rank = (name) => (first.includes(name) ? first.indexOf(name) : first.length);
  return [...found].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** As `measuredNames`; before anything has been measured, what is to come. */
export function metricNames(view, models) {
  const found = measuredNames(view, models);
  return found.length ? found : [...new Set([goalMetric(view.goal), "loss"])];
}

const goalMetric = (goal) => goal?.metric ?? "accuracy";
const bare = (name) => (name.endsWith(BEFORE) ? name.slice(0, -BEFORE.length) : name);

/** `[{name, points: [[version, value], ...]}]` of a metric, one series for each source. */
export function seriesOf({ goal, history }, models, metric) {
  const central = [];
  const own = [];
  for (const { version, evaluations } of models) {
    const mean = [0, 0];
    for (const { source, num_examples, metrics } of evaluations) {
      if (!(metric in metrics)) continue;
      if (source === "central") central.push([version, metrics[metric]]);
      else {
        mean[0] += metrics[metric] * num_examples;
        mean[1] += num_examples;
      }
    }
    if (mean[1]) own.push([version, mean[0] / mean[1]]);
  }
  // A round's clients measure the model that they train from: the version before the round's own.
  const federated = [];
  const training = [];
  for (const { number: round, metrics } of history) {
    if (`${metric}${BEFORE}` in metrics) federated.push([round - 1, metrics[`${metric}${BEFORE}`]]);
    else if (metric in metrics && metric === goal?.metric) federated.push([round - 1, metrics[metric]]);
    else if (metric in metrics) training.push([round, metrics[metric]]);
  }
  return [
    { name: t("central test set"), points: central },
    { name: t("clients’ held-out data"), points: federated },
    { name: t("clients’ evaluations"), points: own },
    { name: t("clients’ training"), points: training },
  ];
}

/** The series by which models are told apart: the first with values. */
export const mainSeries = (series) => series.find((s) => s.points.length);

/** Says of a metric whether more is better, less is better, or neither is known (null). */
export function betterOf(metric, goal) {
  if (goal && metric === goal.metric) return goal.better;
  const parts = wordsOf(metric);
  if (parts.some((word) => RATES.has(word))) return "higher";
  return parts.includes("loss") ? "lower" : null;
}

/** The best `[version, value]` of a series, the first of equal ones; null if better is not known. */
export function bestOf(series, better) {
  if (!series || !better || !series.points.length) return null;
  return series.points.reduce((best, point) =>
    ((better === "higher" ? point[1] > best[1] : point[1] < best[1]) ? point : best));
}

/** The best model of an experiment: `{version, value, metric, source}`, or null. */
export function bestModel(view, models) {
  const [metric] = metricNames(view, models);
  const series = mainSeries(seriesOf(view, models, metric));
  const found = bestOf(series, betterOf(metric, view.goal));
  return found && { version: found[0], value: found[1], metric, source: series.name };
}

const wordsOf = (metric) => metric.toLowerCase().split(/[^a-z0-9]+/);
export const isRate = (metric) => wordsOf(metric).some((word) => RATES.has(word));

/** A metric's name for people: `Balanced accuracy`, but `MAE`. */
export function titleOf(metric) {
  if (metric in COMMON) return COMMON[metric];
  const text = words(metric);
  if (text.length <= 4) return text.toUpperCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A value as text: a rate in percent. */
export const valueText = (metric, value) => (isRate(metric) ? percent(value) : number(value));

const whole = (value) => share(value, 2, 0);

/** How a chart of a metric is drawn. */
export function chartOf(metric) {
  if (isRate(metric)) return { format: percent, tick: whole, bounds: [0, 1] };
  return { format: number, bounds: wordsOf(metric).includes("loss") ? [0, null] : [null, null] };
}

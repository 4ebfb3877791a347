// Numbers and times for people, as the browser's region writes them.
import { t } from "./words.js";

const REGION = navigator.language;
const grouped = new Intl.NumberFormat(REGION, { maximumFractionDigits: 0 });
const POINT = new Intl.NumberFormat(REGION).formatToParts(1.5).find(({ type }) => type === "decimal").value;
const NO_DOLLARS = new Intl.NumberFormat(REGION, { style: "currency", currency: "USD", maximumFractionDigits: 0 }).format(0);

export const count = (n) => grouped.format(n);

/** A number in digits as they are, such as `1.5e-7`, with the region's decimal point. */
export const plain = (digits) => String(digits).replace(".", POINT);
export const rounded = (value, digits) => plain(Number(value.toPrecision(digits)));
export const decimals = (value, places) => plain(value.toFixed(places));

/** `one` or `many`, translated; `{n}` in it is the number. */
export const plural = (n, one, many, values = {}) => t(n === 1 ? one : many, { ...values, n: count(n) });

const rates = new Map();
/** A share with so many decimals of its percents, and at least `least` of them. */
export function share(value, most, least = most) {
  const kind = `${most} ${least}`;
  if (!rates.has(kind)) {
    rates.set(kind, new Intl.NumberFormat(REGION, { style: "percent", minimumFractionDigits: least, maximumFractionDigits: most }));
  }
  return rates.get(kind).format(value);
}
export const percent = (value) => share(value, value > 0.995 && value < 1 ? 2 : 1);

export function number(value) {
  if (value === 0) return plain("0");
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? plain(value.toExponential(2)) : rounded(value, 4);
}

/** Writes digits as US dollars: `$0.002`. */
export const dollars = (digits) => NO_DOLLARS.replace("0", plain(digits));

/** Writes US dollars with enough digits for a small amount: `$0.0022`. */
export function usd(amount) {
  if (amount === 0) return dollars("0");
  if (amount >= 1) return dollars(amount.toFixed(2));
  return dollars(amount < 1e-6 ? amount.toExponential(0) : Number(amount.toPrecision(2)).toFixed(Math.ceil(-Math.log10(amount)) + 1));
}

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? count(size) : decimals(size, 1)} ${units[at]}`;
}

export function seconds(value) {
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return t("{n} days", { n: count(Math.floor(whole / 86_400)) });
}

const moment = new Intl.DateTimeFormat(REGION, { dateStyle: "medium", timeStyle: "short" });
export const when = (iso) => moment.format(new Date(iso));

const STATES = {
  awaiting_model: t("awaiting weights"), enrolling: t("enrolling"), running: t("running"), paused: t("paused"),
  completed: t("completed"), failed: t("failed"), stopped: t("stopped"),
  advertising: t("advertising"), sharing: t("sharing"), confirming: t("confirming"), collecting: t("collecting"),
  sealed: t("sealed"), unmasking: t("unmasking"), aggregating: t("aggregating"), closed: t("closed"), abandoned: t("abandoned"),
};

/** The state of an experiment or a round. */
export const stateName = (state) => STATES[state] ?? state;

/** A setting's name for people: `clients_per_round` is "clients per round". */
export const words = (name) => name.replaceAll("_", " ");

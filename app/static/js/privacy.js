// What the models have cost of differential privacy, the budget, and what the coordinator sees.
import { card, h, once } from "./dom.js";
import { plain, rounded } from "./format.js";
import { t } from "./words.js";

/** Three digits: `2.31`, `0.0019`. */
const figure = (value) => rounded(value, 3);

/** The spent epsilon in a word or two. */
export const spent = ({ epsilon, delta }) => (delta ? t("ε {epsilon} at δ {delta}", { epsilon: figure(epsilon), delta: plain(delta) }) : t("nothing spent"));

const SEEN = t("Secure aggregation: the coordinator sees the sum of a round’s updates, and none of them.");
const PINS = t("Against a coordinator that departs from the protocol the parties pin each other (join --pin); only they know "
  + "whether they do.");

export function privacySection() {
  const sentence = h("p");
  const bar = h("progress.hidden", { max: 1, "aria-label": t("Budget of privacy spent") });
  const meaning = h("p.muted.small", { lang: "en" });
  const spending = h("div", {}, h("div.budget", {}, sentence, bar), meaning);
  const seen = h("p");
  const node = card(t("Privacy"), spending, seen);
  node.classList.add("hidden");

  const show = once(({ privacy, state, mode, helper }) => {
    const secure = mode !== "off";
    node.classList.toggle("hidden", !privacy && !secure);
    spending.classList.toggle("hidden", !privacy);
    seen.classList.toggle("hidden", !secure);
    seen.textContent = [SEEN, mode === "helper" && t("Another operator’s helper knows the masks, and together the two could see each update. "
      + "Its fingerprint: {fingerprint}.", { fingerprint: helper }), PINS].filter(Boolean).join(" ");
    if (!privacy) return;
    const { epsilon, budget_epsilon: budget } = privacy;
    sentence.replaceChildren(h("strong", {}, spent(privacy)), " ",
      budget === null ? t("so far. There is no budget.") : t("of a budget of {budget}, at which it pauses.", { budget: `ε ${figure(budget)}` }));
    bar.classList.toggle("hidden", budget === null);
    bar.classList.toggle("over", budget !== null && state === "paused");
    if (budget !== null) bar.value = Math.min(1, epsilon / budget);
    meaning.textContent = privacy.meaning;
  });
  const update = ({ privacy = null, state, config }) =>
    show({ privacy, state, mode: config.secure_aggregation, helper: config.helper_key });
  return { node, update };
}

/** A tile with what is spent; none without a mechanism that keeps a ledger. */
export function privacyTile({ privacy }) {
  if (!privacy) return [];
  const { epsilon, delta, budget_epsilon: budget } = privacy;
  const of = budget === null ? "" : `${t("of {budget}", { budget: figure(budget) })}; `;
  return [[t("Privacy"), `ε ${figure(epsilon)}`, delta ? `${of}δ ${plain(delta)}` : t("nothing spent yet")]];
}

// An experiment's name, state and progress, and the buttons that pause, resume, stop and delete it.
import { experimentPath, patch, post, send } from "./api.js";
import { confirm } from "./confirm.js";
import { copyButton, h, once, say } from "./dom.js";
import { plural, stateName, when } from "./format.js";
import { t } from "./words.js";

/** `changed(view)` gets what the admin has changed of a view: the coordinator tells an ended experiment's no more. */
export function headSection(changed) {
  const node = h("div.head");
  const sentence = h("p.sentence", { role: "status" });
  const bar = h("progress", { "aria-label": t("Rounds done") });
  const show = once(({ id, name, state, created_at, expires_at, actions, budget, days, origin, privacy }) => {
    node.replaceChildren(
      h("div.title", {},
        h("h1", {}, name), h(`span.badge.${state}`, {}, stateName(state)),
        h("span.spacer"), h("div.row", {}, actions.map((action) => button(action, { id, name, budget, days, privacy, changed })))),
      h("div.row.small.muted", {}, h("code", {}, id), copyButton(id, t("Copy experiment id")),
        h("span", {}, t("created {when}", { when: when(created_at) })), kept(expires_at, days), origin && beginning(origin)),
      sentence, bar);
  });
  const update = (view) => {
    const { id, name, state, created_at, expires_at = null, origin = null, privacy = null } = view;
    const days = view.config.keep_days ?? null;
    show({ id, name, state, created_at, expires_at, origin, privacy, days, actions: actionsFor(view), budget: view.config.budget_usd });
    // The round's own section counts the time down, so this sentence leaves it out.
    const text = view.progress.replace(/, \d+ s left/, "");
    const wrong = troubles(view);
    sentence.classList.toggle("wrong", wrong.length > 0 || view.always_refused?.length > 0 || state === "failed");
    const whole = [text, ...wrong].join(" ");
    if (sentence.textContent !== whole) sentence.replaceChildren(h("span", { lang: "en" }, text), ...wrong.map((one) => ` ${one}`));
    bar.max = view.config.rounds;
    bar.value = state === "completed" ? view.config.rounds : (view.model_version ?? 0);
  };
  return { node, update };
}

/** For how long it stays, if not for good. */
function kept(expires_at, days) {
  if (expires_at) return h("b", {}, t("is deleted on {when}", { when: when(expires_at) }));
  return days !== null && h("span", {}, plural(days, "stays for {n} day after its end", "stays for {n} days after its end"));
}

/** The model that a fork began from; its experiment may be another coordinator's. */
function beginning({ experiment, version, sha256 }) {
  return h("span", { title: `SHA-256 ${sha256}` }, t("begins from model {version} of", { version }), " ",
    h("a", { href: `#/experiments/${encodeURIComponent(experiment)}` }, experiment));
}

/** What goes wrong now, beside the refusals that the coordinator's own sentence names. */
function troubles({ current_round: round, config, ended_at }) {
  if (ended_at || !round || round.attempt < 2) return [];
  const { reported, cohort, missing } = round.earlier_attempts.at(-1);
  const names = missing.slice(0, 5).join(", ");
  return [t("This is attempt {attempt} of {attempts}: before, {reported} of {cohort} updates came in time.",
    { attempt: round.attempt, attempts: config.max_attempts, reported: reported.length, cohort: cohort.length }),
  ...(missing.length ? [missing.length > 5 ? t("Missing: {names} and more.", { names }) : t("Missing: {names}.", { names })] : [])];
}

/** The names of the actions that an owner may take now. */
function actionsFor({ state, pausing, ended_at, rights }) {
  if (!rights.owns) return [];
  if (ended_at) return ["edit", "delete"];
  if (state === "paused" || pausing) return ["edit", "resume", "stop"];
  return state === "running" ? ["edit", "pause", "stop"] : ["edit", "stop"];
}

function button(action, about) {
  const [kind, label, onclick] = {
    edit: ["button", t("Edit …"), () => edit(about)],
    pause: ["button", t("Pause …"), () => confirmPause(about)],
    resume: ["button.primary", t("Resume …"), () => confirmResume(about)],
    stop: ["button.danger", t("Stop …"), () => confirmStop(about)],
    delete: ["button.danger", t("Delete …"), () => confirmDelete(about)],
  }[action];
  return h(kind, { type: "button", onclick }, label);
}

function edit({ id, name, days, changed }) {
  const title = h("input", { id: "f-new-name", maxlength: 200, value: name });
  const stay = h("input", { id: "f-days", type: "number", min: "1", max: "36500", step: "1", value: days, "aria-describedby": "f-days-help" });
  const question = {
    title: t("Edit “{name}”", { name }),
    text: t("This changes no model and no other setting."),
    yes: t("Save"),
    no: t("Cancel"),
    harmless: true,
    body: h("div.fields", {}, h("div.field", {}, h("label", { for: "f-new-name" }, t("name")), title),
      h("div.field", {}, h("label", { for: "f-days" }, t("keep days")), stay, h("p.muted.small", { id: "f-days-help" },
        t("So many days after its end the experiment is deleted with its models. Left empty, it stays.")))),
  };
  confirm(question, async () => {
    const body = { name: title.value, keep_days: stay.value === "" ? null : Number(stay.value) };
    const { config, expires_at, ...now } = await patch(experimentPath(id), body);
    changed({ name: now.name, config, expires_at });
    say(t("Saved."));
  });
}

function confirmPause({ id, name }) {
  const question = {
    title: t("Pause “{name}”?", { name }),
    text: t("The open round is brought to its end, and no other one is opened until you resume it."),
    yes: t("Pause it"),
    no: t("Let it run"),
    harmless: true,
  };
  confirm(question, async () => {
    await post(`${experimentPath(id)}/pause`);
    say(t("It pauses after this round."));
  });
}

function confirmResume({ id, name, budget, privacy }) {
  const amount = h("input", {
    id: "f-budget", type: "number", min: "0", step: "any", value: budget, "aria-describedby": "f-budget-help",
  });
  const epsilon = privacy && h("input", {
    id: "f-epsilon", type: "number", min: "0", step: "any", value: privacy.budget_epsilon ?? "", "aria-describedby": "f-epsilon-help",
  });
  const question = {
    title: t("Resume “{name}”?", { name }),
    text: t("It goes on with its next round; its clients come back within minutes."),
    yes: t("Resume it"),
    no: t("Not now"),
    harmless: true,
    body: h("div", {}, h("div.field", {}, h("label", { for: "f-budget" }, t("budget in US dollars")), amount,
      h("p.muted.small", { id: "f-budget-help" }, t("It must be above the estimated cost. Left empty, it stays as it is."))),
    epsilon && h("div.field", {}, h("label", { for: "f-epsilon" }, t("budget of privacy, as epsilon")), epsilon,
      h("p.muted.small", { id: "f-epsilon-help" }, t("It must have room for another round. Left empty, it stays as it is.")))),
  };
  confirm(question, async () => {
    const asked = {};
    if (amount.value !== "") asked.budget_usd = Number(amount.value);
    if (epsilon && epsilon.value !== "") asked.budget_epsilon = Number(epsilon.value);
    await post(`${experimentPath(id)}/resume`, Object.keys(asked).length ? asked : undefined);
    say(t("The experiment goes on."));
  });
}

function confirmStop({ id, name }) {
  const question = {
    title: t("Stop “{name}”?", { name }),
    text: t("It cannot be started again. Its models stay and can be downloaded."),
    yes: t("Stop it"),
    no: t("Keep it running"),
  };
  confirm(question, async () => {
    await post(`${experimentPath(id)}/stop`);
    say(t("The experiment is stopped."));
  });
}

function confirmDelete({ id, name }) {
  const question = {
    title: t("Delete “{name}”?", { name }),
    text: t("Its models, updates, clients and records are deleted and cannot be brought back. Download first what is to stay."),
    yes: t("Delete it"),
    no: t("Keep it"),
  };
  confirm(question, async () => {
    await send("DELETE", experimentPath(id));
    location.hash = "#/";
    say(t("The experiment is deleted."));
  });
}

// Settings of the form that follow others, visibly: no choice of one makes another one impossible.
import { h } from "./dom.js";
import { count } from "./format.js";
import { t } from "./words.js";

const ONLY_OWN = ["max_examples_per_client", "normalisation"];
const ONLY_COMMON = ["dataset_size"];
const DECIDED = ["selection", "schedule"]; // by the coordinator, for parties with data of their own

/** Hides and disables the fields that do not apply to whose data it is: they are not sent. */
export function showWhoseData(form) {
  const own = form.elements.data?.value === "own";
  const toggle = (name, hidden) => {
    const control = form.elements[name];
    if (!control) return;
    control.disabled = hidden;
    control.closest(".field").classList.toggle("hidden", hidden);
  };
  for (const name of ONLY_OWN) toggle(name, !own);
  for (const name of ONLY_COMMON) toggle(name, own);
  for (const name of DECIDED) {
    const control = form.elements[name];
    if (control && !control.dataset.chosen) control.toggleAttribute("data-unsent", own);
  }
}

/** Leaves choices that nobody has touched to the coordinator, where it decides by whose data it is. */
export function leaveUntouched(form) {
  form.addEventListener("input", ({ target }) => {
    const group = target.closest("fieldset.chosen")?.previousElementSibling?.querySelector("select") ?? target;
    if (!DECIDED.includes(group.name)) return;
    group.dataset.chosen = "1";
    group.removeAttribute("data-unsent");
  });
}

/** Keeps the cohort within the number of clients, and says so beside it. */
export function adaptCohort(form) {
  const { clients, clients_per_round: cohort } = form.elements;
  const usual = Number(cohort.value);
  const note = h("p.small.adapted", { role: "status" });
  cohort.after(note);
  let own = false; // somebody has typed a cohort
  cohort.addEventListener("input", () => {
    own = true;
    note.textContent = "";
  });
  clients.addEventListener("input", () => {
    const most = Number(clients.value);
    if (!(most >= 1)) return;
    const wanted = own ? Math.min(Number(cohort.value), most) : Math.min(usual, most);
    if (wanted === Number(cohort.value)) return;
    cohort.value = wanted;
    note.textContent = wanted < usual ? t("Now {wanted}: there are {most} clients.", { wanted: count(wanted), most: count(most) }) : "";
  });
}

// The form for a new experiment: the settings that the API describes, and the initial weights' file.
import { get, post } from "./api.js";
import { fieldsOf, formField, readFields, showFaults } from "./fields.js";
import { h, say } from "./dom.js";
import { adminKey, askForKey, onKeyChange } from "./key.js";
import { describe } from "./safetensors.js";
import { uploadInitial } from "./upload.js";

const FIRST = ["dataset", "dataset_size", "model", "clients", "clients_per_round", "rounds", "local_epochs",
  "batch_size", "learning_rate", "momentum"];

export function createView(main) {
  let over = false;
  const show = async () => {
    if (!adminKey()) {
      main.replaceChildren(h("h1", {}, "New experiment"), h("p", {}, "This needs the admin key."),
        h("div", {}, h("button.primary", { type: "button", onclick: askForKey }, "Give the key")));
      return;
    }
    try {
      const { schemas } = (await get("openapi.json")).components;
      const form = createForm(fieldsOf(schemas.ExperimentConfig, schemas));
      if (!over) main.replaceChildren(h("a", { href: "#/" }, "← All experiments"), h("h1", {}, "New experiment"), form);
    } catch (error) {
      main.replaceChildren(h("p.fault", { role: "alert" }, error.message));
    }
  };
  const unlisten = onKeyChange(show);
  show();
  return () => {
    over = true;
    unlisten();
  };
}

/** The fields of each group under its name, in the order of the schema. */
function groupsOf(fields) {
  const names = [...new Set(fields.map((field) => field.group))];
  return names.map((name) => h("fieldset", {}, h("legend", {}, name),
    h("div.fields", {}, fields.filter((field) => field.group === name).flatMap(formField))));
}

function createForm(fields) {
  const fault = h("p.fault", { role: "alert" });
  const button = h("button.primary", { type: "submit" }, "Create experiment");
  const progress = h("progress.hidden", { max: 1, value: 0, "aria-label": "Upload" });
  const name = { name: "name", label: "name", help: "For people; may stay empty.", type: "text" };
  const file = h("input", { type: "file", id: "f-file", accept: ".safetensors", required: true, "aria-describedby": "f-file-help" });
  const byName = new Map(fields.map((field) => [field.name, field]));
  const first = FIRST.filter((n) => byName.has(n)).map((n) => byName.get(n));
  const others = fields.filter((field) => !FIRST.includes(field.name));
  const form = h("form.card", { novalidate: true },
    h("div.field", {}, h("label", { for: "f-file" }, "initial weights"), file,
      h("p.muted.small", { id: "f-file-help" }, "A .safetensors file. Every update must hold its tensors; it stays version 0.")),
    h("div.fields", {}, [name, ...first].flatMap(formField)),
    h("details", {}, h("summary", {}, "More settings"), groupsOf(others)),
    fault, progress, h("div.row.end", {}, button));

  file.addEventListener("change", async () => {
    const about = await describe(file.files[0]).catch((error) => (fault.textContent = error.message) && null);
    if (about === null) return;
    fault.textContent = "";
    for (const field of ["dataset", "model"]) {
      const input = form.elements[field];
      if (!input.value && about[field]) input.value = about[field];
    }
  });

  // The key stays while the form stays, so a repeated call makes no second experiment.
  let once = null;
  form.addEventListener("input", () => (once = null));
  const send = async () => {
    if (!file.files[0]) throw new Error("Choose the file of the initial weights.");
    await describe(file.files[0]);
    once ??= [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    const body = { name: form.elements.name.value, config: readFields(form, fields) };
    const made = await post("v1/experiments", body, { "Idempotency-Key": once });
    progress.classList.remove("hidden");
    await uploadInitial(made, file.files[0], (share) => (progress.value = share));
    say("Created. Hand the enrolment key to the parties.");
    location.hash = `#/experiments/${encodeURIComponent(made.id)}`;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    showFaults(form, []);
    fault.textContent = "";
    try {
      await send();
    } catch (error) {
      const shown = showFaults(form, error.errors ?? []);
      fault.textContent = shown ? "Some settings are not right: see above." : error.message;
    }
    progress.classList.add("hidden");
    button.disabled = false;
  });
  return form;
}

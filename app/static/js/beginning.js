// The first question of the form: what is learnt, and from what the initial weights come.
import { here } from "./api.js";
import { copyButton, h } from "./dom.js";
import { initialModel, PRESETS } from "./presets.js";
import { commandOf, INSTALL, INSTALL_NOTE } from "./recipe.js";
import { describe } from "./safetensors.js";
import { t } from "./words.js";

const OWN = "own";
const FILE = "file";
const HELP = {
  [OWN]: t("Each party trains on a table or pictures of its own. The weights depend on what these look like, so the command below makes "
    + "them from an example, and creates the experiment. Or choose a model file of an earlier experiment, and create it here."),
  [FILE]: t("A .safetensors file. Every update must hold its tensors; it stays version 0."),
};
const MADE_HERE = t("This page makes the initial weights of the two-layer CNN from the setting “seed”. Each party holds the whole set and trains on a shard of it.");

/** The choice, the file's field and the command; `weights()` gives the bytes of the chosen weights. */
export function beginning(fault) {
  const options = [...Object.entries(PRESETS).map(([name, { label }]) => [name, label]),
    [OWN, t("The parties bring data of their own")], [FILE, t("Something else: I have a file of weights")]];
  const kind = h("select", { id: "f-kind", "aria-describedby": "f-kind-help" },
    options.map(([value, label]) => h("option", { value }, label)));
  const help = h("p.muted.small", { id: "f-kind-help" });
  const file = h("input", { type: "file", id: "f-file", accept: ".safetensors" });
  const fileField = h("div.field", {}, h("label", { for: "f-file" }, t("initial weights")), file);
  const command = h("div.cards");
  const node = h("div.cards", {},
    h("div.field", {}, h("label", { for: "f-kind" }, t("what is learnt")), kind, help), command, fileField);
  const value = (form, name) => form.elements[name];

  /** Puts what the choice says into the form's fields, and hides the fields that it decides. */
  const apply = (form) => {
    const preset = PRESETS[kind.value];
    help.textContent = HELP[kind.value] ?? MADE_HERE;
    fileField.classList.toggle("hidden", Boolean(preset));
    for (const name of ["dataset", "model", "dataset_size"]) if (preset && value(form, name)) value(form, name).value = preset[name];
    const data = value(form, "data");
    if (data && kind.value !== FILE) data.value = kind.value === OWN ? OWN : "common";
    data?.closest(".field").classList.toggle("hidden", kind.value !== FILE);
  };
  const connect = (form, changed) => {
    let before = kind.value;
    kind.addEventListener("change", () => {
      // A name that another choice has put there would be a lie.
      if (before in PRESETS) for (const name of ["dataset", "model", "dataset_size"]) if (value(form, name)) value(form, name).value = "";
      before = kind.value;
      apply(form);
      changed();
    });
    file.addEventListener("change", async () => {
      const about = await describe(file.files[0]).catch((error) => (fault.textContent = error.message) && null);
      if (about === null) return;
      fault.textContent = "";
      if (kind.value in PRESETS) {
        kind.value = FILE;
        kind.dispatchEvent(new Event("change"));
      }
      for (const field of ["dataset", "model"]) {
        const input = value(form, field);
        if (!input.value && about[field]) input.value = about[field];
      }
    });
    apply(form);
  };
  const weights = async (seed) => {
    if (kind.value in PRESETS) return initialModel(PRESETS[kind.value], seed);
    if (!file.files[0]) throw new Error(t("Choose the file of the initial weights."));
    await describe(file.files[0]);
    return new Uint8Array(await file.files[0].arrayBuffer());
  };
  /** Shows the command that creates an experiment with these settings, if the parties bring data. */
  const showCommand = (name, settings) => {
    command.classList.toggle("hidden", kind.value !== OWN);
    const text = createCommand(name, settings);
    command.replaceChildren(
      h("p.small", {}, INSTALL_NOTE),
      h("div.recipe", {}, h("code", {}, INSTALL), copyButton(INSTALL, t("Copy install line"))),
      h("p.small", {}, t("Then, with the settings below:")),
      h("div.command", {}, h("code", {}, text), copyButton(text, t("Copy command"))),
      h("p.muted.small", {}, t("EXAMPLE is a table like those of the parties, and COLUMN is what is to be learnt; or a folder of pictures, without --label. "
        + "Its rows and pictures stay on your machine. At the end it prints what each party types.")));
  };
  return { node, connect, weights, showCommand };
}

/** The command `create` with the settings that are not at their defaults. */
function createCommand(name, settings) {
  const words = ["create", "--server", here(), ...(name ? ["--name", name] : []), "--like", "EXAMPLE", "--label", "COLUMN"];
  for (const [key, value] of settings) words.push(`--${key.replaceAll("_", "-")}`, String(value));
  return commandOf("FL_ADMIN_KEY=...", words);
}

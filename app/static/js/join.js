// How a party takes part: the recipe, to be copied, saved as a file, or read from a screen as a QR code.
import { experimentPath, get, here } from "./api.js";
import { card, copyButton, h, once, say } from "./dom.js";
import { saveFile } from "./download.js";
import { showQr } from "./qr.js";
import { INSTALL, INSTALL_NOTE, recipeOf } from "./recipe.js";
import { t } from "./words.js";

const LONGEST = 100_000; // characters of a certificate

const WHO = t("Each party types this on its own machine (Linux or macOS, Python 3.11 or newer).");
const WITH_KEY = t("The enrolment key in it is a secret: hand it on in private.");
const WITHOUT_KEY = t("It needs the enrolment key, which the experiment’s creator gives out.");
const OWN = t("NAME is how the others see the party. PATH is its own table (.csv, .tsv, .npz, .parquet) or folder of pictures "
  + "(CLASS/*.png), which stays there.");
const COMMON = t("Each party holds the whole data set: --data-dir says where, if it cannot be downloaded.");
const SHARE = t("With --share-labels it shares how many of its examples have each label: the experiment asks for that, and everybody here sees it.");
const TASK = t("A task of somebody’s own needs --task MODULE:NAME, too.");

export function joinSection(id) {
  const about = h("p.muted.small");
  const note = h("p.muted.small");
  const steps = h("div.steps");
  const name = h("input", { id: "party-name", maxlength: 100, placeholder: "NAME", autocomplete: "off" });
  const data = h("input", { id: "party-data", maxlength: 300, placeholder: "PATH", autocomplete: "off" });
  const dataField = field(t("Its own data"), data);
  const file = h("input", { id: "party-authority", type: "file", accept: ".pem,.crt,.cer" });
  const fileField = field(t("Certificate of the coordinator’s private authority, if it has one"), file);
  const save = h("button.tiny", { type: "button" }, t("Save as a file"));
  const qr = h("button.tiny", { type: "button" }, t("Show as a QR code"));
  const node = card(t("Take part"), about, h("div.fields", {}, field(t("The party’s name"), name), dataField, fileField),
    steps, note, h("div.row", {}, save, qr));

  let key = null;
  let asked = null;
  let reading = null;
  let authority = "";
  let state = null; // { key, open, own, asked }
  const recipe = (about = {}) => recipeOf({
    id, server: here(), key: state.key, name: name.value.trim(), data: state.own ? data.value.trim() : null, authority, ...about,
  });
  save.addEventListener("click", () => {
    const notes = [about.textContent, INSTALL_NOTE, note.textContent];
    saveFile(`${id}-join.sh`, recipe({ notes }).script);
  });
  qr.addEventListener("click", () => showQr(recipe({ inline: false }).script,
    [t("The install line and the command."), authority && t("The certificate is not in it: hand its file on as authority.pem."),
      state.key ? WITH_KEY : WITHOUT_KEY].filter(Boolean).join(" ")));
  file.addEventListener("change", async () => {
    authority = "";
    const [chosen] = file.files;
    const text = chosen && chosen.size <= LONGEST ? await chosen.text() : "";
    if (text.includes("-----BEGIN CERTIFICATE-----")) authority = text;
    else if (chosen) {
      file.value = "";
      say(t("This is no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----."));
    }
    write();
  });

  const write = () => {
    const { join } = recipe();
    steps.replaceChildren(
      h("p.small", {}, INSTALL_NOTE), h("div.recipe", {}, h("code", {}, INSTALL), copyButton(INSTALL, t("Copy install line"))),
      h("p.small", {}, authority ? t("Then, and again after any interruption, beside the certificate’s file, authority.pem, which the saved file makes:")
        : t("Then, and again after any interruption:")),
      h("div.command", {}, h("code", {}, join), copyButton(join, t("Copy command"))));
  };
  for (const input of [name, data]) input.addEventListener("input", write);
  const show = once((now) => {
    state = now;
    node.classList.toggle("hidden", !now.open);
    dataField.classList.toggle("hidden", !now.own);
    fileField.classList.toggle("hidden", !here().startsWith("https:"));
    about.textContent = `${WHO} ${now.key ? WITH_KEY : WITHOUT_KEY}`;
    note.textContent = [now.own ? OWN : COMMON, now.asked && SHARE, TASK].filter(Boolean).join(" ");
    write();
  });
  const read = async () => {
    try {
      key = (await get(`${experimentPath(id)}/enrolment-key`)).enrolment_key;
    } catch {
      asked = null; // try again with the next view
    }
  };
  // A command is shown, and can be copied, once it has its key: "..." is for who may not see it.
  const update = async (view) => {
    const open = !view.ended_at;
    const now = open && view.rights.owns;
    if (!now) key = null;
    if (now !== asked) {
      asked = now;
      reading = now ? read() : null;
    }
    await reading;
    show({ key: now ? key : null, open, own: view.config.data === "own", asked: view.config.label_counts === "asked" });
  };
  return { node, update };
}

const field = (label, input) => h("div.field", {}, h("label", { for: input.id }, label), input);

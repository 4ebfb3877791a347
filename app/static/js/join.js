// The whole recipe by which a party takes part: what it installs, and the command that it runs.
import { experimentPath, get, here } from "./api.js";
import { card, copyButton, h, once } from "./dom.js";
import { saveFile } from "./download.js";
import { adminKey } from "./key.js";

/** What somebody types once to have the SDK. */
export const INSTALL = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt '.[client]'";

/** A word of a command, quoted for a shell where it must be. */
export const quote = (text) => (/^[\w.:/@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

export function joinSection(id) {
  const about = h("p.muted.small");
  const install = h("div.recipe", {}, h("code", {}, INSTALL), copyButton(INSTALL, "install line"));
  const place = h("div.command");
  const note = h("p.muted.small");
  const save = h("button.tiny", { type: "button" }, "Save as a file");
  const node = card("Take part", about, h("p.small", {}, "Once, in a copy of this project’s repository:"), install,
    h("p.small", {}, "Then, and again after any interruption:"), place, note, h("div.row", {}, save));
  let key = null;
  let asked = null;
  let reading = null;
  let command = "";
  save.addEventListener("click", () =>
    saveFile(`${id}-join.sh`, `# ${about.textContent}\n# ${note.textContent}\n${INSTALL}\n${command}\n`));
  const show = once(({ key, open, own }) => {
    node.classList.toggle("hidden", !open);
    about.textContent = key
      ? "Each party types this on its own machine. The enrolment key is shown to you as the admin: hand it on in private."
      : "Each party types this on its own machine, with the enrolment key that the experiment’s creator gives out.";
    note.textContent = own
      ? "NAME is how the others see the party. PATH is its own table (.csv, .tsv, .npz, .parquet) or folder of pictures (CLASS/*.png), which stays there."
      : "Each party holds the whole data set: --data-dir says where, if it cannot be downloaded.";
    note.textContent += " A task of somebody’s own needs --task MODULE:NAME, too.";
    command = `FL_ENROL_KEY=${quote(key ?? "...")} .venv/bin/python -m client_sdk join `
      + `--server ${quote(here())} --experiment ${quote(id)}${own ? " --name NAME --data PATH" : ""}`;
    place.replaceChildren(h("code", {}, command), copyButton(command, "command"));
  });
  const read = async () => {
    try {
      key = (await get(`${experimentPath(id)}/enrolment-key`)).enrolment_key;
    } catch {
      asked = null; // try again with the next view
    }
  };
  // A command is shown, and can be copied, once it has its key: "..." is for who has no admin key.
  const update = async (view) => {
    const open = !view.ended_at;
    const now = open ? adminKey() : null;
    if (!now) key = null;
    if (now !== asked) {
      asked = now;
      reading = now ? read() : null;
    }
    await reading;
    show({ key: adminKey() ? key : null, open, own: view.config.data === "own" });
  };
  return { node, update };
}

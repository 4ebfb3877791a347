// The command that a party runs on its own machine to take part.
import { experimentPath, get, here } from "./api.js";
import { card, copyButton, h, once } from "./dom.js";
import { adminKey } from "./key.js";

const quote = (text) => (/^[\w.:/@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

export function joinSection(id) {
  const about = h("p.muted.small");
  const place = h("div.command");
  const node = card("Take part", about, place);
  let key = null;
  let asked = null;
  const show = once(({ key, open }) => {
    node.classList.toggle("hidden", !open);
    about.textContent = key
      ? "Each party types this on its own machine. The enrolment key is shown to you as the admin: hand it on in private."
      : "Each party types this on its own machine, with the enrolment key that the experiment’s creator gives out.";
    const command = `FL_ENROL_KEY=${quote(key ?? "...")} .venv/bin/python -m client_sdk join `
      + `--server ${quote(here())} --experiment ${quote(id)}`;
    place.replaceChildren(h("code", {}, command), copyButton(command, "command"));
  });
  const update = async (view) => {
    const open = !view.ended_at;
    if (!adminKey()) key = null;
    show({ key, open });
    const now = open ? adminKey() : null;
    if (now === asked) return;
    asked = now;
    if (!now) return;
    try {
      key = (await get(`${experimentPath(id)}/enrolment-key`)).enrolment_key;
      if (adminKey()) show({ key, open });
    } catch {
      asked = null; // try again with the next view
    }
  };
  return { node, update };
}

// The command with which a party takes part from its own machine.
import { here } from "./api.js";
import { card, copyButton, h, once } from "./dom.js";
import { enrolKey } from "./key.js";

const quote = (text) => (/^[\w.:/@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

export function joinSection() {
  const about = h("p.muted.small");
  const place = h("div.command");
  const node = card("Take part", about, place);
  const show = once(({ id, key, open }) => {
    place.replaceChildren();
    node.classList.toggle("hidden", !open);
    about.textContent = key
      ? "Each party types this on its own machine. The enrolment key is shown in this tab only: hand it on now."
      : "Each party types this on its own machine, with the enrolment key that the experiment’s creator gives out.";
    const command = `FL_ENROL_KEY=${quote(key ?? "...")} python -m client_sdk join `
      + `--server ${quote(here())} --experiment ${quote(id)}`;
    place.append(h("code", {}, command), copyButton(command, "command"));
  });
  const update = (view) => show({ id: view.id, key: enrolKey(view.id), open: !view.ended_at });
  return { node, update };
}

// The question before an action that changes an experiment for all its participants.
import { h } from "./dom.js";

/**
 * Asks, and calls `work` on yes; the dialog shows its failure. `body` may hold fields. An action
 * that is not `harmless` cannot be undone.
 */
export function confirm({ title, text, yes, no, body, harmless = false }, work) {
  const fault = h("p.fault", { role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await work();
      dialog.close();
    } catch (error) {
      fault.textContent = error.message;
    }
  };
  const dialog = h("dialog", { "aria-labelledby": "confirm-title", onclose: () => dialog.remove() },
    h("form", { onsubmit: submit },
      h("h2", { id: "confirm-title" }, title),
      h("p", {}, text),
      body,
      fault,
      h("div.row.end", {},
        h("button", { type: "button", onclick: () => dialog.close() }, no),
        h(harmless ? "button.primary" : "button.danger", { type: "submit" }, yes))));
  document.body.append(dialog);
  dialog.showModal();
}

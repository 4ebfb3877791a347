// A question before what changes an experiment for all who take part in it.
import { h } from "./dom.js";

/**
 * Asks; on yes does `work`, whose failure is shown in the dialog. `body` may hold fields; what is
 * not `harmless` cannot be undone.
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

// A text as a QR code, drawn as SVG. The library is loaded when somebody asks for a code.
import { h, svg } from "./dom.js";
import { t } from "./words.js";

const MARGIN = 4; // light modules around a code, so that a camera finds its edges

/** Shows a text as a QR code in a dialog, with a sentence that says what it is. */
export async function showQr(text, what) {
  const { generate } = await import("./vendor/lean-qr.js");
  const code = generate(text);
  const size = code.size + 2 * MARGIN;
  const dark = [];
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) if (code.get(x, y)) dark.push(`M${x + MARGIN} ${y + MARGIN}h1v1h-1z`);
  }
  const dialog = h("dialog", { "aria-labelledby": "qr-title", onclose: () => dialog.remove() },
    h("form", { method: "dialog" },
      h("h2", { id: "qr-title" }, t("QR code")),
      svg("svg.qr", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": t("QR code"), "shape-rendering": "crispEdges" },
        svg("rect", { width: size, height: size }), svg("path", { d: dark.join("") })),
      h("p.small", {}, what),
      h("div.row.end", {}, h("button", { type: "submit" }, t("Close")))));
  document.body.append(dialog);
  dialog.showModal();
}

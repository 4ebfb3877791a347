// Tries the newest model on a drawing, a picture or a row of a table, in this tab: nothing of it leaves the tab.
import { classify, readModel } from "./cnn.js";
import { card, h, keyed, once } from "./dom.js";
import { fetchModel } from "./download.js";
import { bytes, percent } from "./format.js";
import { adminKey } from "./key.js";
import { fitOf, framesDigits, inputOf } from "./picture.js";
import { PRESETS } from "./presets.js";
import { rowForm } from "./row.js";
import { readTableModel } from "./table.js";
import { t } from "./words.js";

const SIDE = 280;
const PEN = 24;
const LARGEST = 1024; // the most pixels of a picture's longer side
const SIXTEEN_BITS = t("This picture has 16 bits a channel, of which a browser shows 8: the SDK's command predict reads it.");

const TABLES = new Set(["table-linear", "table-mlp"]);
const NETWORKS = new Set(Object.values(PRESETS).map((preset) => preset.model));

export function predictSection(id) {
  const note = h("p.muted.small");
  const load = h("button", { type: "button" });
  const canvas = h("canvas", { width: SIDE, height: SIDE, "aria-label": t("Draw here"), role: "img" });
  const file = h("input", { type: "file", id: "predict-file", accept: "image/*" });
  const clear = h("button", { type: "button" }, t("Clear"));
  const result = h("ul.guesses", { "aria-live": "polite" });
  const desk = h("div.desk.hidden", {}, canvas, h("div.field", {},
    h("label", { for: "predict-file" }, t("Draw, or choose a picture")), file, h("div.row", {}, clear), result));
  const loading = h("div.row", {}, load);
  const row = h("div");
  const node = card(t("Try the model"), note, loading, desk, row);
  let tables = false; // the task is one of tables
  let model = null;
  let newest = null;
  let told = ""; // the text about the loaded model

  const guess = (picture = canvas) => {
    const guesses = classify(model, inputOf(picture, model)).slice(0, 3);
    keyed(result, guesses, ([name]) => name, ([name, share]) => h("li", {}, h("b", {}, name),
      h("progress", { max: 1, value: share, "aria-label": t("Probability of {name}", { name }) }), h("span.num", {}, percent(share))));
  };
  const wipe = () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white"; // the paper, in both themes
    context.fillRect(0, 0, SIDE, SIDE);
    result.replaceChildren();
    file.value = "";
  };
  drawing(canvas, () => guess());
  clear.addEventListener("click", wipe);
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    result.replaceChildren();
    if (await isDeep(chosen)) {
      note.textContent = SIXTEEN_BITS;
      return;
    }
    try {
      const picture = await read(chosen);
      show(picture, canvas);
      guess(picture);
      note.textContent = told;
    } catch {
      note.textContent = t("This file cannot be read as a picture.");
    }
  });
  load.addEventListener("click", async () => {
    load.disabled = true;
    try {
      const { version } = newest;
      if (tables) {
        row.replaceChildren(rowForm(readTableModel(await fetchModel(id, newest))));
        note.textContent = t("Model {version} is in this tab. What you type stays here. An empty field counts as missing.", { version });
        load.disabled = false;
        return;
      }
      const found = readModel(await fetchModel(id, newest));
      fitOf(found);
      model = found;
      told = t("Model {version} of {data} is in this tab. What you draw stays here.", { version, data: model.dataset || t("its data set") });
      if (framesDigits(model)) told += ` ${t("Of a photograph, the SDK's command predict leaves out shades and lines; this page does not.")}`;
      note.textContent = told;
      desk.classList.remove("hidden");
      wipe();
    } catch (error) {
      note.textContent = error.message;
    }
    load.disabled = false;
  });
  const tell = once(({ version, size }) => {
    load.textContent = t("Load model {version} ({size})", { version, size: bytes(size) });
  });
  const update = (view, models) => {
    newest = models.at(-1);
    node.classList.toggle("hidden", !newest || !adminKey());
    if (newest) tell(newest);
    const { task } = view;
    const pictures = !task || NETWORKS.has(task.name); // an old file names no task
    tables = Boolean(task) && TABLES.has(task.name);
    loading.classList.toggle("hidden", !pictures && !tables);
    if (tables) {
      if (!row.firstChild && !note.textContent) note.textContent = t("Fill in a row, and see what the newest model says of it.");
    } else if (!pictures) {
      note.textContent = t("This page tries networks for pictures and tables. For {task}, download a model below and give it to the command: .venv/bin/serverless-fl predict --model FILE with your table or your own task’s input.", { task: task.name });
    } else if (!model && !note.textContent) {
      note.textContent = t("Draw a digit, say, and see what the newest model takes it for.");
    }
  };
  return { node, update };
}

/** Lets pointers draw lines, and calls `done` after each line. */
function drawing(canvas, done) {
  let last = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const context = canvas.getContext("2d");
    const next = place(event);
    Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "black" });
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...next);
    context.stroke();
    last = next;
  });
  canvas.addEventListener("pointerup", () => {
    last = null;
    done();
  });
}

/** Draws a picture file upright on white paper, on a canvas of its own. */
async function read(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, LARGEST / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Says whether a file is a PNG with 16 bits a channel (https://www.w3.org/TR/png-3/#11IHDR). */
async function isDeep(file) {
  const head = new Uint8Array(await file.slice(0, 25).arrayBuffer());
  return head.length === 25 && String.fromCharCode(...head.slice(1, 4)) === "PNG" && head[24] === 16;
}

/** Shows a whole picture in the middle of the drawing canvas. */
function show(picture, canvas) {
  const scale = Math.min(SIDE / picture.width, SIDE / picture.height);
  const [w, h_] = [picture.width * scale, picture.height * scale];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(picture, (SIDE - w) / 2, (SIDE - h_) / 2, w, h_);
}

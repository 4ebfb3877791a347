// Tries a model on a drawing, a picture or a row of a table, in this tab: nothing of it leaves the tab.
import { readModel } from "./cnn.js";
import { card, h, keyed, once } from "./dom.js";
import { fetchModel } from "./download.js";
import { bytes, percent } from "./format.js";
import { offered, readOnnx } from "./onnx.js";
import { fitOf, framesDigits, inputOf } from "./picture.js";
import { PRESETS } from "./presets.js";
import { ranked } from "./ranking.js";
import { rowForm } from "./row.js";
import { readTableModel } from "./table.js";
import { t } from "./words.js";

const SIDE = 280;
const PEN = 24;
const LARGEST = 1024; // the most pixels of a picture's longer side
const SIXTEEN_BITS = t("This picture has 16 bits a channel, of which a browser shows 8: the SDK's command predict reads it.");

const EXPORT = ".venv/bin/serverless-fl export --model FILE --out model.onnx";
const EXPORT_TASK = ".venv/bin/serverless-fl export --model FILE --task MODULE:NAME --like INPUTS --out model.onnx";

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
  const exported = h("input", { type: "file", id: "predict-onnx", accept: ".onnx", "aria-describedby": "predict-onnx-help" });
  const command = h("code");
  const node = card(t("Try the model"), note, loading, offered
    ? h("div.field", {}, h("label", { for: "predict-onnx" }, t("An exported model (ONNX): choose its file, or drop it here")), exported,
      h("p.muted.small", { id: "predict-onnx-help" }, t("It is read in this tab, and goes nowhere. This makes it:"), " ", command))
    : h("p.muted.small", {}, t("Exported models (ONNX) can be tried here once the coordinator has ONNX Runtime Web’s files: its operator sets FL_ONNX_DIR.")), desk, row);
  let tables = false; // the task is one of tables
  let dataset = "";
  let model = null;
  let newest = null;
  let told = ""; // the text about the loaded model
  let turn = 0; // of guesses: a later one may be there earlier

  const guess = async (picture = canvas) => {
    const mine = (turn += 1);
    const logits = await model.run(inputOf(picture, model));
    if (mine !== turn) return;
    const guesses = ranked(model.classes, logits).slice(0, 3);
    keyed(result, guesses, ([name]) => name, ([name, share]) => h("li", {}, h("b", {}, name),
      h("progress", { max: 1, value: share, "aria-label": t("Probability of {name}", { name }) }), h("span.num", {}, percent(share))));
  };
  const wipe = () => {
    turn += 1;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white"; // the paper, in both themes
    context.fillRect(0, 0, SIDE, SIDE);
    result.replaceChildren();
    file.value = "";
  };
  const takePicture = (found, text) => {
    fitOf(found);
    model = found;
    told = framesDigits(model) ? `${text} ${t("Of a photograph, the SDK's command predict leaves out shades and lines; this page does not.")}` : text;
    note.textContent = told;
    row.replaceChildren();
    desk.classList.remove("hidden");
    wipe();
  };
  const takeTable = (form, text) => {
    told = text;
    note.textContent = told;
    desk.classList.add("hidden");
    row.replaceChildren(form);
  };
  const open = async (chosen) => {
    note.textContent = t("Loading …");
    try {
      const { picture, table, ask } = await readOnnx(new Uint8Array(await chosen.arrayBuffer()), dataset);
      const about = { file: chosen.name };
      if (table) return takeTable(rowForm(table, ask), t("{file} is in this tab. What you type stays here. An empty field counts as missing.", about));
      takePicture(picture, [t("{file} is in this tab. What you draw stays here.", about),
        !picture.says && t("It does not say how pixels are scaled: they go in as numbers from 0 to 1.")].filter(Boolean).join(" "));
    } catch (error) {
      note.textContent = error.message;
    }
  };
  if (offered) {
    exported.addEventListener("change", () => exported.files.length && open(exported.files[0]));
    node.addEventListener("dragover", (event) => event.preventDefault());
    node.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
  }
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
      await guess(picture);
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
        takeTable(rowForm(readTableModel(await fetchModel(id, newest))),
          t("Model {version} is in this tab. What you type stays here. An empty field counts as missing.", { version }));
      } else {
        const found = readModel(await fetchModel(id, newest));
        takePicture(found, t("Model {version} of {data} is in this tab. What you draw stays here.", { version, data: found.dataset || t("its data set") }));
      }
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
    node.classList.toggle("hidden", !newest || !view.rights.reads);
    if (newest) tell(newest);
    const { task } = view;
    const pictures = !task || NETWORKS.has(task.name); // an old file names no task
    tables = Boolean(task) && TABLES.has(task.name);
    dataset = view.config.dataset;
    loading.classList.toggle("hidden", !pictures && !tables);
    command.textContent = pictures || tables ? EXPORT : EXPORT_TASK;
    if (told || note.textContent) return;
    if (tables) {
      note.textContent = t("Fill in a row, and see what the newest model says of it.");
    } else if (!pictures && offered) {
      note.textContent = t("This page has networks for pictures and tables. For {task}, choose an exported model.", { task: task.name });
    } else if (!pictures) {
      note.textContent = t("This page tries networks for pictures and tables. For {task}, download a model below and give it to the command: .venv/bin/serverless-fl predict --model FILE with your table or your own task’s input.", { task: task.name });
    } else {
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

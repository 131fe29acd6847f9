// The page of `pydisent explore`: sliders in, pictures out. No library, no build step.

const $ = (id) => document.getElementById(id);
const IMAGE = 0, MASKED = 1, HEADER_BYTES = 12;
const SOME = 16; // sliders shown initially, unless more are aligned
const QUICK = 250; // ms: eigenvectors faster than this are recomputed while a slider moves
const FORMAT = "pydisent codes";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

let models = [];
let names = [];
let code = [];
let start = [];
let lead = 0; // the model whose eigenvectors, masks and encoder are used
let upload = 0;
let strengths = [];
let sliders = []; // by coordinate: {row, input, output, note}
let moved = 0; // the last coordinate moved
let all = false; // whether all sliders are shown
const kept = []; // {id, name, code, pictures: [ImageData of each model]}
let keptNumber = 0;

/* Elements and messages */

function make(kind, properties = {}, ...children) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
}

let saidUntil = 0;
function say(text) {
  $("alert").textContent = "";
  $("status").textContent = text;
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => { $("status").textContent = ""; }, 6000);
}

function complain(text) {
  $("status").textContent = "";
  $("alert").textContent = text;
}

const signed = (value, digits = 2) => `${value < 0 ? "−" : value > 0 ? "+" : ""}${Math.abs(value).toFixed(digits)}`;
const plain = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

/* One-off requests */

async function ask(path, body, raw = false) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : { method: "POST", body: raw ? body : JSON.stringify(body) });
  } catch {
    throw new Error("pydisent explore does not respond: is it still running?");
  }
  if (!response.ok) {
    const text = await response.text();
    let reason = text;
    try { reason = JSON.parse(text).error; } catch { /* not JSON */ }
    throw new Error(reason || `${path} failed: ${response.status}`);
  }
  return response;
}

const askJson = async (path, body, raw) => (await ask(path, body, raw)).json();

// Wraps the buttons' actions, to report their errors.
function attempt(action) {
  return async (...given) => {
    $("alert").textContent = "";
    try {
      await action(...given);
    } catch (error) {
      complain(error.message);
    }
  };
}

function pictureOf({ height, width, pixels }) {
  const bytes = Uint8ClampedArray.from(atob(pixels), (char) => char.charCodeAt(0));
  return new ImageData(bytes, width, height);
}

function draw(canvas, picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/* The socket: the newest code's frames and eigenvectors */

let socket = null;
let asked = 0, shown = 0; // frame numbers
let dirty = false;

function connect() {
  const address = new URL("live", location.href);
  address.protocol = "ws:";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    asked = shown = 0;
    analysing = false;
    if ($("alert").textContent.startsWith("The connection")) say("Connected again.");
    request();
    analyseSoon();
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : see(data));
  socket.onclose = () => {
    complain("The connection was lost: is pydisent explore still running? Trying again …");
    setTimeout(connect, 1500);
  };
}

const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;

// At most one request per screen refresh, and two in flight: dragging never queues.
function request() {
  dirty = true;
  cancelAnimationFrame(request.waits);
  request.waits = requestAnimationFrame(send);
}

function send() {
  if (!dirty || !isOpen() || asked - shown >= 2) return;
  dirty = false;
  asked += 1;
  socket.send(JSON.stringify({ type: "show", id: asked, code, mask: maskShown() }));
}

function see(data) {
  const header = new DataView(data);
  const number = header.getUint32(0, true), model = header.getUint8(4), kind = header.getUint8(5);
  const height = header.getUint16(6, true), width = header.getUint16(8, true);
  const picture = new ImageData(new Uint8ClampedArray(data, HEADER_BYTES), width, height);
  const about = models[model];
  about[kind === IMAGE ? "picture" : "masked"] = picture;
  const wanted = maskShown() !== null && about.masks ? MASKED : IMAGE;
  if (kind === wanted) {
    draw(about.canvas, picture);
    about.canvas.dataset.frame = number;
    if (model === 0) count();
  }
  shown = Math.max(shown, number);
  if (dirty) send();
  if (kind === IMAGE && isCompared("now")) compareSoon();
}

const drawn = []; // times of the last second's frames
function count() {
  const now = performance.now();
  drawn.push(now);
  while (drawn[0] < now - 1000) drawn.shift();
  $("rate").textContent = drawn.length > 2 ? `${drawn.length} frames/s` : "";
  clearTimeout(count.ends);
  count.ends = setTimeout(() => { $("rate").textContent = ""; }, 1500);
}

function hear(message) {
  if (message.type === "analysis") {
    analysed(message);
  } else if (message.type === "error") {
    if (message.of === "analyse") analysing = false;
    else shown = asked;
    complain(message.message);
  }
}

/* The code */

// Every change of the code ends here; `goes` names the movement that it is part of, if any.
function setCode(values, goes = "") {
  code = [...values];
  code.forEach(showValue);
  changed(goes);
}

function changed(goes = "") {
  if (goes !== "path") paths.clear();
  if (goes !== "between") ends = null;
  request();
  analyseSoon();
}

function showValue(value, i) {
  const { input, output } = sliders[i];
  if (value < Number(input.min)) input.min = Math.floor(value);
  if (value > Number(input.max)) input.max = Math.ceil(value);
  input.value = value;
  output.textContent = plain(value);
}

function makeSliders() {
  $("sliders").classList.toggle("long", names.some((name) => name.length > 6));
  sliders = names.map((name, i) => {
    const [low, high] = models[0].ranges[i];
    const input = make("input", { type: "range", id: `z${i}`, min: low, max: high, step: "any" });
    const output = make("output", { htmlFor: `z${i}` });
    const note = make("small", { id: `about-z${i}` });
    input.setAttribute("aria-describedby", note.id);
    input.addEventListener("input", () => {
      moved = i;
      code[i] = Number(input.value);
      output.textContent = plain(code[i]);
      changed();
    });
    const row = make("div", { className: "slider" }, make("label", { htmlFor: `z${i}`, textContent: name }), input, output, note);
    return { row, input, output, note };
  });
}

function arrange() {
  const by = strengths[lead]?.[$("order").value];
  const order = names.map((_, i) => i);
  if (by) order.sort((a, b) => by[b] - by[a]);
  const some = Math.max(SOME, Math.min(models[lead].aligned, 32));
  const visible = all ? order : order.slice(0, some);
  const focused = document.activeElement;
  $("sliders").replaceChildren(...visible.map((i) => sliders[i].row));
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();
  $("more").hidden = names.length <= some;
  $("more").textContent = all ? `Show only the first ${some}` : `Show all ${names.length}`;
  $("more").setAttribute("aria-expanded", all);
}

function showStrengths() {
  const found = strengths[lead];
  const options = [["code", "as in the code"], ["tpl", "by TPL"], ["kl", "by KL"]].filter(([key]) => key === "code" || found?.[key]);
  const before = $("order").value;
  $("order").replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
  if (options.some(([key]) => key === before)) $("order").value = before;
  sliders.forEach(({ note }, i) => {
    const parts = [];
    if (found?.tpl) parts.push(`TPL ${found.tpl[i].toFixed(3)}`);
    if (found?.kl) parts.push(`KL ${found.kl[i].toFixed(3)}`);
    if (models[lead].aligned > i) parts.push("aligned by the penalty");
    note.textContent = parts.join(" · ");
  });
  const words = found ? [] : ["Reading the data …"];
  if (found?.tpl) words.push("TPL: the perceptual length of the coordinate’s traversal.");
  if (found?.kl) words.push("KL: the coordinate’s divergence from the prior, in nats.");
  if (found?.missing) words.push(`The data cannot be read: ${found.missing}`);
  if (found && !found.tpl) words.push(`The run has no TPL score: pydisent evaluate ${models[lead].folder} --metrics tpl measures it.`);
  $("strength-note").textContent = words.join(" ");
  arrange();
}

/* Masks */

function maskShown() {
  const choice = $("mask").value;
  if (!models.some((model) => model.masks) || choice === "" || choice === "none") return null;
  return choice === "moved" ? moved : Number(choice);
}

function makeMasks() {
  $("mask-field").hidden = !models.some((model) => model.masks);
  const options = [["none", "none"], ["moved", "last moved"], ...names.map((name, i) => [i, name])];
  $("mask").replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
}

/* Eigenvectors */

let analysing = false, askedAt = 0, cost = 0, analysedCode = null, waiting = 0;
let vectorRows = [];
const paths = new Map(); // by ordinal: the direction of the last step, to continue in
let analysisNumber = 0;

const same = (a, b) => a !== null && a.length === b.length && a.every((value, i) => value === b[i]);

function analyseSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(analyse, cost < QUICK ? 60 : 200);
  if (cost < QUICK && performance.now() - askedAt > 2 * QUICK) analyse();
}

function analyse() {
  const count = models[lead]?.eigenvectors;
  if (!count || analysing || !isOpen()) return;
  analysisNumber += 1;
  analysing = { id: analysisNumber, code: [...code], lead };
  askedAt = performance.now();
  socket.send(JSON.stringify({ type: "analyse", id: analysisNumber, code, model: lead }));
}

function analysed({ id, eigenvalues, vectors }) {
  const of = analysing;
  if (!of || of.id !== id) return;
  analysing = false;
  cost = performance.now() - askedAt;
  analysedCode = of.code;
  if (of.lead === lead) showVectors(eigenvalues, vectors);
  if (of.lead !== lead || !same(of.code, code)) analyseSoon();
}

function makeVectors() {
  const count = models[lead].eigenvectors;
  $("eigen").hidden = !count;
  vectorRows = Array.from({ length: count }, (_, i) => {
    const meter = make("meter", { min: 0, max: 1, value: 0 });
    meter.setAttribute("aria-label", `σ of eigenvector ${i + 1}, relative to the largest`);
    const text = make("span", { className: "about" });
    const button = (sense, sign) => {
      const one = make("button", { type: "button", textContent: sign });
      one.setAttribute("aria-label", `Step ${sense} along eigenvector ${i + 1}`);
      one.addEventListener("click", attempt(() => walk(i + 1, sense)));
      return one;
    };
    const about = make("div", {}, text, meter);
    const row = make("li", {}, make("span", { textContent: `γ${i + 1}` }), about, button("backwards", "−"), button("forwards", "+"));
    return { row, text, meter };
  });
  $("vectors").replaceChildren(...vectorRows.map(({ row }) => row));
}

function showVectors(eigenvalues, vectors) {
  const sigma = eigenvalues.map(Math.sqrt);
  const summary = vectors.map((vector, j) => {
    const shares = vector.map((value) => value * value);
    const main = shares.indexOf(Math.max(...shares));
    const words = `${Math.round(100 * shares[main])} % along ${names[main]}`;
    vectorRows[j].text.textContent = `σ ${sigma[j].toPrecision(3)} · ${words}`;
    vectorRows[j].meter.value = sigma[0] > 0 ? sigma[j] / sigma[0] : 0;
    return `eigenvector ${j + 1}: ${words}`;
  });
  drawHeatmap(vectors);
  $("heatmap").setAttribute("aria-label", `F at this code. ${summary.join("; ")}.`);
  $("eigen").dataset.analysed = JSON.stringify(analysedCode);
}

// The rows with the largest shares, in the order of the code, if not all fit.
function heatmapRows(vectors) {
  const most = names.map((_, i) => Math.max(...vectors.map((vector) => vector[i] ** 2)));
  const order = names.map((_, i) => i).sort((a, b) => most[b] - most[a]).slice(0, 24);
  return order.sort((a, b) => a - b);
}

function drawHeatmap(vectors) {
  const canvas = $("heatmap"), rows = heatmapRows(vectors), density = devicePixelRatio || 1;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const font = "12px system-ui, 'DejaVu Sans', sans-serif";
  const context = canvas.getContext("2d");
  context.font = font;
  const short = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
  const left = 8 + Math.max(...rows.map((i) => context.measureText(short(names[i])).width));
  const side = 20, top = 18, width = left + side * vectors.length, height = top + side * rows.length;
  canvas.width = width * density;
  canvas.height = height * density;
  canvas.style.width = `${width}px`;
  context.scale(density, density);
  context.font = font;
  context.textBaseline = "middle";
  vectors.forEach((vector, j) => {
    context.textAlign = "center";
    context.fillStyle = colour("--muted");
    context.fillText(`γ${j + 1}`, left + side * (j + 0.5), top / 2);
    rows.forEach((i, r) => {
      const place = [left + side * j, top + side * r, side - 1, side - 1];
      context.fillStyle = colour("--low");
      context.fillRect(...place);
      context.globalAlpha = Math.min(1, vector[i] ** 2);
      context.fillStyle = colour("--accent");
      context.fillRect(...place);
      context.globalAlpha = 1;
    });
  });
  context.textAlign = "right";
  context.fillStyle = colour("--ink");
  rows.forEach((i, r) => context.fillText(short(names[i]), left - 6, top + side * (r + 0.5)));
}

function entered(id) {
  const input = $(id);
  if (input.value === "" || !input.checkValidity()) {
    input.reportValidity();
    throw new Error(`${input.labels[0].textContent.trim()}: ${input.validationMessage || "a number is needed"}`);
  }
  return Number(input.value);
}

let walking = false;
async function walk(ordinal, sense) {
  if (walking) return;
  walking = true;
  if (cost > QUICK) say(`Following eigenvector ${ordinal} …`); // each step recomputes the eigenvectors
  try {
    const before = paths.get(ordinal) ?? null;
    const asking = { model: lead, code, ordinal, sense, length: entered("length"), steps: entered("steps"), direction: before };
    const { codes, direction } = await askJson("walk", asking);
    if (!same(asking.code, code)) return; // a slider was moved in the meantime
    for (const [i, next] of codes.entries()) {
      if (i > 0 && !still.matches) await new Promise((done) => setTimeout(done, 60));
      if (still.matches && i < codes.length - 1) continue;
      if (i > 0 && !still.matches && !same(codes[i - 1], code)) return;
      setCode(next, "path");
    }
    paths.set(ordinal, direction);
    say(`${codes.length} ${codes.length > 1 ? "steps" : "step"} ${sense} along eigenvector ${ordinal}`);
  } finally {
    walking = false;
  }
}

/* Pictures to codes */

function showSource({ code: found, picture }, caption) {
  draw($("source"), pictureOf(picture));
  $("source-caption").textContent = caption;
  $("source-figure").hidden = false;
  setCode(found);
  say(`The code is that of ${caption}.`);
}

async function encodeFile(file) {
  if (!file) return;
  if (file.size > upload) throw new Error(`${file.name} must have at most ${upload} bytes, got ${file.size}`);
  try {
    showSource(await askJson(`encode?model=${lead}`, await file.arrayBuffer(), true), file.name);
  } catch (error) {
    throw new Error(`${file.name}: ${error.message}`);
  }
}

async function encodeImage(index) {
  const found = await askJson("image", { model: lead, index });
  const about = strengths[lead];
  const of = about?.images ? ` of ${about.images.toLocaleString("en")} (${about.part === "test" ? "held out of training" : "of the training data"})` : "";
  $("index").value = found.index;
  showSource(found, `image ${found.index}${of}`);
}

function showEncoder() {
  const reason = models[lead].encoder;
  $("no-encoder").hidden = !reason;
  $("no-encoder").textContent = reason;
  $("encoder").hidden = Boolean(reason);
  const found = strengths[lead];
  if (found?.images) $("index").max = found.images - 1;
  for (const id of ["take", "any", "index"]) $(id).disabled = Boolean(found?.missing);
}

function acceptDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", attempt(async (event) => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    await (file.name.toLowerCase().endsWith(".json") ? importCodes(file) : encodeFile(file));
  }));
}

/* Kept codes */

async function keep(codes, itsNames) {
  const { pictures } = await askJson("pictures", { codes });
  codes.forEach((each, n) => {
    keptNumber += 1;
    const item = { id: `kept-${keptNumber}`, name: itsNames?.[n] || `code ${keptNumber}`, code: each, pictures: pictures.map((of) => pictureOf(of[n])) };
    kept.push(item);
    $("kept").append(keptRow(item));
  });
  keptChanged();
  say(codes.length > 1 ? `Kept ${codes.length} codes.` : `Kept as ${kept.at(-1).name}.`);
}

function keptRow(item) {
  const thumbnails = make("div", { className: "thumbnails" });
  for (const [i, picture] of item.pictures.entries()) {
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Kept picture of ${models[i].label}`);
    draw(canvas, picture);
    thumbnails.append(canvas);
  }
  const name = make("input", { type: "text", value: item.name, maxLength: 60 });
  name.setAttribute("aria-label", "Name of this kept code");
  name.addEventListener("change", () => {
    item.name = name.value.trim() || item.name;
    name.value = item.name;
    keptChanged();
  });
  const use = make("button", { type: "button", textContent: "Use" });
  use.addEventListener("click", () => { setCode(item.code); say(`The code is ${item.name}.`); });
  const remove = make("button", { type: "button", textContent: "Remove" });
  const row = make("li", {}, thumbnails, name, make("div", { className: "row" }, use, remove));
  remove.addEventListener("click", () => {
    kept.splice(kept.indexOf(item), 1);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    keptChanged();
    (next?.querySelector("button") ?? $("keep")).focus();
    say(`Removed ${item.name}.`);
  });
  return row;
}

function keptChanged() {
  $("nothing").hidden = kept.length > 0;
  for (const button of document.querySelectorAll(".of-kept")) button.disabled = kept.length < 1;
  for (const button of document.querySelectorAll(".of-two")) button.disabled = kept.length < 2;
  const options = [["now", "current code"], ...kept.map(({ id, name }) => [id, name])];
  for (const id of ["first", "second"]) {
    const before = $(id).value;
    $(id).replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
    $(id).value = options.some(([value]) => value === before) ? before : "now";
  }
  // By default the last kept code is compared with the current one.
  if (kept.length && $("first").value === "now" && $("second").value === "now") $("first").value = kept.at(-1).id;
  $("compared").hidden = kept.length < 1;
  compare();
}

function download(data, kind, name) {
  const address = URL.createObjectURL(new Blob([data], { type: kind }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function exportCodes() {
  const runs = models.map(({ label, system, data, folder, step }) => ({ label, system, data, folder, step }));
  const codes = kept.map(({ name, code: values }) => ({ name, code: values }));
  download(JSON.stringify({ format: FORMAT, version: 1, runs, names, codes }, null, 1), "application/json", "codes.json");
}

async function importCodes(file) {
  if (!file) return;
  let found;
  try {
    found = JSON.parse(await file.text());
  } catch (error) {
    throw new Error(`${file.name} must be JSON: ${error.message}`);
  }
  if (found?.format !== FORMAT || !Array.isArray(found.codes) || !found.codes.length) {
    throw new Error(`${file.name} must be codes that this page exported, with the format “${FORMAT}”`);
  }
  const size = found.codes.findIndex((each) => !Array.isArray(each?.code) || each.code.length !== names.length);
  if (size >= 0) throw new Error(`${file.name}: code ${size + 1} must have ${names.length} numbers, one for each of ${names[0]} to ${names.at(-1)}`);
  await keep(found.codes.map((each) => each.code), found.codes.map((each) => (typeof each.name === "string" ? each.name.slice(0, 60) : "")));
}

const mixed = (a, b, t) => a.map((value, i) => value + t * (b[i] - value));

async function animate(codes, labels, title, name) {
  say("Making the GIF …");
  const made = await ask("gif", { model: lead, codes, names: labels, title });
  download(await made.arrayBuffer(), "image/gif", name);
  say(`Saved ${name}.`);
}

async function animateWay() {
  const parts = kept.length - 1, each = Math.max(2, Math.min(16, Math.floor(180 / parts)));
  const codes = [], labels = [];
  for (let p = 0; p < parts; p += 1) {
    for (let t = 0; t < each; t += 1) {
      codes.push(mixed(kept[p].code, kept[p + 1].code, t / each));
      labels.push(t === 0 ? `${p + 1}` : `${p + 1}→${p + 2}`);
    }
  }
  codes.push(kept[parts].code);
  labels.push(`${parts + 1}`);
  await animate(codes, labels, `${models[lead].label}: from one code to the next`, "way.gif");
}

async function traverse() {
  const i = Number($("along").value), [low, high] = models[0].ranges[i], count = 31;
  const values = Array.from({ length: count }, (_, t) => low + (t / (count - 1)) * (high - low));
  const codes = values.map((value) => code.map((old, k) => (k === i ? value : old)));
  await animate(codes, values.map((value) => signed(value, 1)), `${models[lead].label}: ${names[i]}`, `traversal-${i + 1}.gif`);
}

/* Comparison */

const chosen = (id) => {
  const item = kept.find((each) => each.id === $(id).value);
  return item ? { code: item.code, picture: item.pictures[lead] } : { code, picture: models[lead].picture };
};

const isCompared = (value) => kept.length > 0 && ($("first").value === value || $("second").value === value);

function compareSoon() {
  cancelAnimationFrame(compareSoon.waits);
  compareSoon.waits = requestAnimationFrame(compare);
}

function compare() {
  if (!kept.length) return;
  const a = chosen("first"), b = chosen("second");
  if (!a.picture || !b.picture) return;
  const bytes = new Uint8ClampedArray(a.picture.data.length);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 1) {
    const change = i % 4 === 3 ? 0 : Math.abs(a.picture.data[i] - b.picture.data[i]);
    sum += change;
    bytes[i] = i % 4 === 3 ? 255 : change;
  }
  draw($("picture-a"), a.picture);
  draw($("picture-b"), b.picture);
  draw($("picture-d"), new ImageData(bytes, a.picture.width, a.picture.height));
  const changes = names.map((name, i) => [name, b.code[i] - a.code[i]]).sort((x, y) => Math.abs(y[1]) - Math.abs(x[1]));
  const most = changes.filter(([, by]) => Math.abs(by) >= 0.005).slice(0, 5).map(([name, by]) => `${name} ${signed(by)}`);
  const mean = sum / (0.75 * bytes.length * 255);
  $("difference").textContent = `A pixel differs by ${mean.toFixed(4)} on average. From A to B: ${most.join(", ") || "the same code"}.`;
}

let ends = null; // A and B, fixed while the slider moves between them: one may be the current code
function between() {
  const t = Number($("between").value);
  ends ??= ["first", "second"].map((id) => [...chosen(id).code]);
  $("between-value").textContent = `${Math.round(100 * t)} %`;
  setCode(mixed(...ends, t), "between");
}

/* The beginning */

function lay() {
  const first = models[0];
  $("title").textContent = models.map(({ system, data, label }) => `${models.length > 1 ? label : system} on ${data}`).join(" and ");
  document.title = `${$("title").textContent}: pydisent explore`;
  $("subtitle").textContent = models.map(({ folder, step, shape }) => `${folder}: ${step.toLocaleString("en")} updates, ${shape[2]}×${shape[1]} pixels`).join("; ") + `; ${first.names.length} numbers a code`;
  document.querySelector("main").classList.toggle("two", models.length > 1);
  for (const model of models) {
    model.canvas = make("canvas", { width: model.shape[2], height: model.shape[1] });
    model.canvas.setAttribute("role", "img");
    model.canvas.setAttribute("aria-label", `What ${model.label} decodes from the code`);
    $("figures").append(make("figure", {}, model.canvas, ...(models.length > 1 ? [make("figcaption", { textContent: model.label })] : [])));
  }
  $("lead").replaceChildren(...models.map(({ label }, value) => make("option", { value, textContent: label })));
  $("lead-field").hidden = models.length < 2;
  $("along").replaceChildren(...names.map((textContent, value) => make("option", { value, textContent })));
}

function listen() {
  $("random").addEventListener("click", attempt(async () => setCode((await askJson("sample", { model: lead })).code)));
  $("reset").addEventListener("click", () => setCode(start));
  $("keep").addEventListener("click", attempt(() => keep([[...code]])));
  $("more").addEventListener("click", () => { all = !all; arrange(); });
  $("order").addEventListener("change", arrange);
  $("mask").addEventListener("change", request);
  $("lead").addEventListener("change", () => {
    lead = Number($("lead").value);
    paths.clear();
    makeVectors();
    showStrengths();
    showEncoder();
    compare();
    analyseSoon();
  });
  $("file").addEventListener("change", attempt(async ({ target }) => {
    const [file] = target.files;
    await encodeFile(file).finally(() => { target.value = ""; });
  }));
  $("take").addEventListener("click", attempt(() => encodeImage(entered("index"))));
  $("any").addEventListener("click", attempt(() => encodeImage(null)));
  $("export").addEventListener("click", exportCodes);
  $("import").addEventListener("change", attempt(async ({ target }) => {
    const [file] = target.files;
    await importCodes(file).finally(() => { target.value = ""; });
  }));
  $("png").addEventListener("click", attempt(async () => {
    const made = await ask("png", { model: lead, codes: kept.map((each) => each.code), names: kept.map((each) => each.name) });
    download(await made.arrayBuffer(), "image/png", "codes.png");
  }));
  $("way").addEventListener("click", attempt(animateWay));
  $("traverse").addEventListener("click", attempt(traverse));
  for (const id of ["first", "second"]) {
    $(id).addEventListener("change", () => { ends = null; compare(); });
  }
  $("between").addEventListener("input", between);
  dark.addEventListener("change", () => analyseSoon());
  acceptDrops();
}

async function begin() {
  const about = await askJson("about");
  ({ models, upload } = about);
  names = models[0].names;
  start = models[0].start;
  lay();
  makeSliders();
  makeMasks();
  makeVectors();
  showStrengths();
  showEncoder();
  keptChanged();
  listen();
  setCode(start);
  connect();
  try {
    strengths = await askJson("strengths");
  } finally {
    showStrengths();
    showEncoder();
  }
}

attempt(begin)();

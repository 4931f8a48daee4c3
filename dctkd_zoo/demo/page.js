const $ = id => document.getElementById(id);
const { networks, viridis, most, longest } = JSON.parse($("facts").textContent);
const TOP = 5;
const state = { results: [], ready: null, photo: null, file: null, turn: 0 };

// --- networks

// The bytes of a part of this page: gzip, as base64.
async function unpacked(id) {
  const text = atob($(id).textContent.trim()), packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  $(id).remove();
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  const url = URL.createObjectURL(new Blob([await unpacked("runtime-script")], { type: "text/javascript" }));
  const ort = await import(url);
  URL.revokeObjectURL(url);
  ort.env.wasm.numThreads = 1; // more need headers that a file on disk does not have
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmBinary = await unpacked("runtime-wasm");
  const sessions = [];
  for (const index of networks.keys())
    sessions.push(await ort.InferenceSession.create(await unpacked(`onnx-${index}`), { executionProviders: ["wasm"] }));
  return { ort, sessions };
}

// Probabilities, most likely classes, and a map {width, height, values} per level of one network.
async function run({ ort, sessions }, index, image) {
  const network = networks[index], { size } = network;
  const pixels = new ort.Tensor("float32", normalised(cropped(image, network), network), [1, 3, size, size]);
  const outputs = await sessions[index].run({ pixel_values: pixels });
  const logits = outputs.logits.data, largest = Math.max(...logits);
  const raised = Array.from(logits, x => Math.exp(x - largest)), sum = raised.reduce((a, b) => a + b, 0);
  const probabilities = raised.map(x => x / sum);
  const top = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, TOP);
  const maps = Object.keys(outputs).filter(name => name.startsWith("map_")).sort((a, b) => a.slice(4) - b.slice(4));
  const levels = maps.map(name => ({ height: outputs[name].dims[1], width: outputs[name].dims[2], values: outputs[name].data }));
  if (!probabilities.every(Number.isFinite)) throw new Error(`the output of ${network.name} is not finite`);
  return { probabilities, top, levels };
}

// --- photographs

const HEAD = 1 << 18; // bytes of a file that hold its metadata

// A file with the EXIF orientation 1, upright, if it is a JPEG that states another one; else the file itself. Browsers
// have no option to ignore it.
async function unturned(file) {
  const view = new DataView(await file.slice(0, HEAD).arrayBuffer());
  try {
    if (view.getUint16(0) !== 0xffd8) return file;
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) !== 0xffe1 || view.getUint32(at + 4) !== 0x45786966) continue;
      const start = at + 10, little = view.getUint16(start) === 0x4949, table = start + view.getUint32(start + 4, little);
      for (let entry = table + 2; entry < table + 2 + 12 * view.getUint16(table, little); entry += 12) {
        if (view.getUint16(entry, little) !== 0x0112 || view.getUint16(entry + 8, little) === 1) continue;
        view.setUint16(entry + 8, 1, little);
        return new Blob([view.buffer, file.slice(HEAD)], { type: file.type });
      }
      return file;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the file ends before its metadata do
  }
  return file;
}

function onCanvas(source, width, height) {
  if (width * height > most || Math.max(width, height) > longest * Math.min(width, height))
    throw new Error(`it has ${width} × ${height} pixels: at most ${most.toLocaleString("en")} are read, and the long side may be ${longest} times the short one`);
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(source, 0, 0);
  return { canvas, image: pen.getImageData(0, 0, width, height) };
}

// A file's pixels as they are stored, without its colour profile.
async function decoded(file) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options).catch(() => { throw new Error("it is not an image that this browser can read"); });
  const photo = onCanvas(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return photo;
}

async function open(file, name) {
  const stored = await unturned(file);
  state.file = { file, stored, name };
  $("upright").checked = false;
  $("turned").hidden = stored === file;
  await classify(() => decoded(stored), name);
}

async function classify(read, name) {
  const turn = ++state.turn;
  $("results").setAttribute("aria-busy", "true");
  say(state.results.length ? `Looking at ${name} …` : "Loading the networks, a few seconds …");
  try {
    const [photo, loaded] = await Promise.all([read(), state.ready ??= load()]);
    const results = [];
    for (const index of networks.keys()) results.push(await run(loaded, index, photo.image));
    if (turn !== state.turn) return; // another photograph has been chosen since
    Object.assign(state, { photo, results });
    show(name);
  } catch (error) {
    if (turn === state.turn) say(`${name} was not classified: ${error.message}.`, true);
  } finally {
    if (turn === state.turn) $("results").setAttribute("aria-busy", "false");
  }
}

// --- results

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", wrong);
}

function percent(p) {
  return p >= 0.0005 ? `${(100 * p).toFixed(1)}\u00a0%` : "<\u00a00.1\u00a0%";
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function show(name) {
  $("results").hidden = false;
  say(verdict());
  $("photo-name").textContent = name;
  state.results.forEach(({ probabilities, top }, index) => {
    const rows = top.map(label => {
      const fill = element("span");
      fill.style.width = `${100 * probabilities[label]}%`;
      const bar = element("span", { className: "bar" }, fill);
      bar.setAttribute("aria-hidden", "true");
      const share = element("data", { value: probabilities[label], textContent: percent(probabilities[label]) });
      return element("li", {}, element("span", { textContent: networks[index].classes[label] }), share, bar);
    });
    $(`top-${index}`).replaceChildren(...rows);
    base(index);
  });
  const deepest = Math.max(...state.results.map(result => result.levels.length));
  const before = $("level").max - $("level").value;
  $("level").max = deepest;
  $("level").value = deepest - (Number.isFinite(before) ? before : 0);
  overlay();
}

// Who says what, in a sentence.
function verdict() {
  const answers = state.results.map(({ top, probabilities }, index) =>
    ({ who: networks[index].short, what: networks[index].classes[top[0]], sure: percent(probabilities[top[0]]) }));
  if (answers.length === 1) return `${answers[0].what}, ${answers[0].sure}.`;
  const said = answers.map(({ who, sure }) => `${who} ${sure}`).join(", ");
  if (answers.every(({ what }) => what === answers[0].what))
    return `${answers.length === 2 ? "Both" : "All"} say ${answers[0].what}: ${said}.`;
  return `They disagree. ${answers.map(({ who, what, sure }) => `${who}: ${what}, ${sure}`).join("; ")}.`;
}

// The part of the photograph that a network sees, drawn as large as the canvas.
function base(index) {
  const { image, canvas } = state.photo, network = networks[index], target = $(`photo-${index}`);
  const { w, left, top } = placement(image.width, image.height, network), unit = image.width / w;
  const pen = target.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(canvas, left * unit, top * unit, network.size * unit, network.size * unit, 0, 0, target.width, target.height);
}

// The map of a network at the chosen level; levels are counted from the deepest where networks have fewer.
function chosen(index) {
  const { levels } = state.results[index];
  return levels[Math.max(levels.length - 1 - ($("level").max - $("level").value), 0)];
}

function overlay() {
  const level = Number($("level").value), last = Number($("level").max);
  const depth = level === last ? "deepest" : level === 1 ? "shallowest" : "";
  $("level-text").textContent = `${level} of ${last}${depth && `, the ${depth}`}`;
  $("level").setAttribute("aria-valuetext", $("level-text").textContent);
  state.results.forEach((_, index) => {
    const map = chosen(index), heat = $(`heat-${index}`);
    const scaled = enlarged(minmax(map), heat.width, heat.height);
    heat.getContext("2d").putImageData(coloured(scaled, heat.width, heat.height), 0, 0);
    $(`map-${index}`).textContent = `Map of ${map.height} × ${map.width}, strongest ${where(map)}`;
  });
  const first = chosen(0);
  state.results.slice(1).forEach((_, i) => {
    const r = correlation(first, chosen(i + 1));
    $(`alike-${i + 1}`).textContent = `Correlation with ${networks[0].short}’s map: ${r.toFixed(2).replace("-", "−")}`;
  });
}

function fade() {
  const opacity = $("opacity").value / 100;
  document.documentElement.style.setProperty("--opacity", opacity);
  $("opacity-text").textContent = `${$("opacity").value} %`;
  $("opacity").setAttribute("aria-valuetext", $("opacity-text").textContent);
}

// --- maps: as dctkd_zoo.attention and dctkd_zoo.attention_grid do

function minmax({ width, height, values }) {
  const low = Math.min(...values), range = Math.max(...values) - low;
  return { width, height, values: Float64Array.from(values, x => range > 1e-30 ? (x - low) / range : 0) };
}

// Bilinear, with pixels as areas.
function enlarged({ width, height, values }, toWidth, toHeight) {
  const result = new Float64Array(toWidth * toHeight);
  const split = (i, to, size) => {
    const at = Math.max((i + 0.5) * size / to - 0.5, 0), low = Math.floor(at);
    return [low, Math.min(low + 1, size - 1), at - low];
  };
  for (let y = 0; y < toHeight; y++) {
    const [top, bottom, down] = split(y, toHeight, height);
    for (let x = 0; x < toWidth; x++) {
      const [left, right, across] = split(x, toWidth, width);
      const line = row => values[row * width + left] * (1 - across) + values[row * width + right] * across;
      result[y * toWidth + x] = line(top) * (1 - down) + line(bottom) * down;
    }
  }
  return result;
}

function coloured(values, width, height) {
  const image = new ImageData(width, height), last = viridis.length - 1;
  values.forEach((value, i) => {
    const low = Math.min(Math.floor(value * last), last - 1), share = value * last - low;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = viridis[low][c] * (1 - share) + viridis[low + 1][c] * share;
    image.data[4 * i + 3] = 255;
  });
  return image;
}

// In which ninth of the image a map is largest, in words.
function where({ width, height, values }) {
  const at = values.indexOf(Math.max(...values)), third = (i, size) => Math.min(Math.floor((i + 0.5) * 3 / size), 2);
  const row = ["at the top", "", "at the bottom"][third(Math.floor(at / width), height)];
  const column = ["left", "", "right"][third(at % width, width)];
  if (!row && !column) return "in the centre";
  return row ? `${row}${column && ` ${column}`}` : `on the ${column}`;
}

// Pearson correlation of two maps over pixels, once both have the smaller height and width: the metric `pearson`.
function correlation(a, b) {
  const width = Math.min(a.width, b.width), height = Math.min(a.height, b.height);
  const [x, y] = [a, b].map(map => {
    const values = resampled(minmax(map), width, height), mean = values.reduce((s, v) => s + v, 0) / values.length;
    return values.map(v => v - mean);
  });
  const dot = (u, v) => u.reduce((sum, value, i) => sum + value * v[i], 0), norm = Math.sqrt(dot(x, x) * dot(y, y));
  return norm > 1e-12 ? dot(x, y) / norm : 0;
}

// A map by the lowest frequencies of its DCT, as dctkd_zoo.spectrum.resample makes it smaller.
function resampled({ width, height, values }, toWidth, toHeight) {
  const rows = mixing(height, toHeight), columns = mixing(width, toWidth);
  const narrow = Array.from({ length: height }, (_, y) =>
    columns.map(weights => weights.reduce((sum, weight, x) => sum + weight * values[y * width + x], 0)));
  return rows.flatMap(weights => columns.map((_, x) => weights.reduce((sum, weight, y) => sum + weight * narrow[y][x], 0)));
}

// The matrix (after, before) of that along one axis.
function mixing(before, after) {
  const wave = (i, k, size) => Math.cos(Math.PI * (2 * i + 1) * k / (2 * size));
  return Array.from({ length: after }, (_, i) => Array.from({ length: before }, (_, j) => {
    let sum = 1;
    for (let k = 1; k < after; k++) sum += 2 * wave(i, k, after) * wave(j, k, before);
    return sum / before;
  }));
}

// --- controls

async function example(button) {
  const picture = button.querySelector("img"), text = atob(picture.src.split(",")[1]);
  await open(new Blob([Uint8Array.from(text, letter => letter.charCodeAt(0))], { type: "image/jpeg" }), picture.alt);
}

async function film() {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("camera-view").showModal();
  } catch (error) {
    say(`The camera cannot be used: ${error.message}.`, true);
  }
}

$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0], target.files[0].name);
  target.value = ""; // so that the same file can be chosen again
});
$("choose").addEventListener("click", () => $("file").click());
document.querySelectorAll(".example").forEach(button => button.addEventListener("click", () => example(button)));
$("upright").addEventListener("change", ({ target }) => {
  const { file, stored, name } = state.file;
  classify(() => decoded(target.checked ? file : stored), name);
});
$("level").addEventListener("input", overlay);
$("opacity").addEventListener("input", fade);
for (const type of ["dragover", "dragleave", "drop"])
  document.addEventListener(type, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
  });
$("camera").hidden = !navigator.mediaDevices?.getUserMedia;
$("camera").addEventListener("click", film);
$("snap").addEventListener("click", () => {
  const video = $("video");
  $("turned").hidden = true;
  classify(async () => onCanvas(video, video.videoWidth, video.videoHeight), "your camera’s picture").then(() => $("camera-view").close());
});
$("camera-view").addEventListener("close", () => $("video").srcObject?.getTracks().forEach(track => track.stop()));
fade();
example(document.querySelector(".example"));

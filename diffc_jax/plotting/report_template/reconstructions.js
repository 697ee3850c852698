const images = data.reconstructions.flatMap((set) => set.index.map((index, row) => ({ set, index, row })));
const decoded = new Map(); // data URI -> promise of ImageData
let chosen = images[0];
let drawing = 0; // number of the latest drawing; older ones that finish late are dropped

function pixels(uri) {
  if (!decoded.has(uri)) {
    const image = new Image();
    image.src = uri;
    const read = () => {
      const canvas = element("canvas", { width: image.width, height: image.height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height);
    };
    decoded.set(uri, image.decode().then(read));
  }
  return decoded.get(uri);
}

/** Cuts image number `level` out of a sprite of equal images, row by row. */
function cut(sprite, level, columns, width, height) {
  const out = new ImageData(width, height);
  const left = (level % columns) * width;
  const top = Math.floor(level / columns) * height;
  for (let y = 0; y < height; y++) {
    const start = 4 * ((top + y) * sprite.width + left);
    out.data.set(sprite.data.subarray(start, start + 4 * width), 4 * y * width);
  }
  return out;
}

/** Columns of the reconstruction left of the wipe's edge, which lies between two pixels. */
const wipeEdge = (width, percent) => Math.round((percent / 100) * width);

function composed(decoded, original, view, wipe) {
  if (view === "reconstruction") return decoded;
  const out = new ImageData(decoded.width, decoded.height);
  const edge = wipeEdge(decoded.width, wipe);
  for (let i = 0; i < out.data.length; i++) {
    const from = decoded.data[i];
    if (i % 4 === 3) out.data[i] = 255;
    else if (view === "difference") out.data[i] = 128 + 4 * (from - original.data[i]); // clamped by the array
    else out.data[i] = Math.floor(i / 4) % decoded.width < edge ? from : original.data[i];
  }
  return out;
}

const rateBounds = () => {
  const rates = chosen.set.series.flatMap((s) => s.bpp[chosen.row]).map((r) => Math.max(r, 1e-6));
  return [Math.log(Math.min(...rates)), Math.log(Math.max(...rates))];
};

function chosenRate() {
  const [low, high] = rateBounds();
  return Math.exp(low + (byId("rate").value / byId("rate").max) * (high - low));
}

function chooseRate(rate) {
  if (!images.length) return;
  const [low, high] = rateBounds();
  byId("rate").value = high > low ? Math.round((byId("rate").max * (Math.log(rate) - low)) / (high - low)) : 0;
  drawTiles();
}

const nearestLevel = (rates, target) => {
  const gap = (rate) => Math.abs(Math.log(Math.max(rate, 1e-6) / target));
  return rates.reduce((best, rate, i) => (gap(rate) < gap(rates[best]) ? i : best), 0);
};

/** What stands below an image whose rate is far from the one asked for. */
function remark(series, rate, target) {
  const kind = series.rate;
  const ratio = rate / target;
  if (ratio > 1.3) return `${kind}, ${show(ratio, 2)} × the rate`;
  if (ratio < 1 / 1.3) return `${kind}, 1/${show(1 / ratio, 2)} of the rate`;
  return kind;
}

function tile(name, line) {
  const canvas = element("canvas", { role: "img" });
  const bpp = element("span", { class: "bpp" });
  const psnr = element("span", { class: "psnr" });
  const note = element("span", { class: "remark" });
  const title = element("span", { class: line ? "name ink" : "name", style: line ? colors(line) : "" }, name);
  const shown = element("div", { class: "shown" }, canvas);
  const caption = element("figcaption", {}, title, element("span", { class: "numbers" }, bpp, psnr), note);
  return { node: element("figure", {}, shown, caption), canvas, bpp, psnr, note, name };
}

function paint({ canvas }, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function shownSeries() {
  const model = byId("model").value;
  const codec = byId("codec").value;
  return chosen.set.series.filter((s, i) => (s.model === null ? String(i) === codec : s.model === model));
}

async function drawTiles() {
  const number = ++drawing;
  const { set, row, index } = chosen;
  const target = chosenRate();
  const view = checked("view");
  const wipe = byId("wipe").value;
  const series = shownSeries();
  const [original, ...sprites] = await Promise.all(
    [set.originals[row], ...series.map((s) => s.sprites[row])].map(pixels),
  );
  if (number !== drawing) return;
  byId("rate-value").textContent = `${rateDigits(target)} bpp`;
  byId("rate").setAttribute("aria-valuetext", `${show(target, 3)} bits per pixel`);
  const first = tile("original");
  first.bpp.textContent = "24 bpp";
  first.note.textContent = "8 bits a channel";
  first.canvas.setAttribute("aria-label", `image ${index}, original`);
  paint(first, original);
  const tiles = series.map((s, i) => {
    const level = nearestLevel(s.bpp[row], target);
    const rate = s.bpp[row][level];
    const decibels = toNumber(s.psnr[row][level]);
    const made = tile(s.label, s);
    made.bpp.textContent = `${rateDigits(rate)} bpp`;
    made.psnr.textContent = Number.isFinite(decibels) ? `${decibels.toFixed(2)} dB` : "exact";
    made.note.textContent = remark(s, rate, target);
    made.canvas.setAttribute(
      "aria-label",
      `image ${index}, ${s.label}, ${view}, ${made.bpp.textContent}, ${made.psnr.textContent}`,
    );
    made.canvas.dataset.level = level;
    paint(made, composed(cut(sprites[i], level, s.columns, set.width, set.height), original, view, wipe));
    return made;
  });
  byId("tiles").replaceChildren(first.node, ...tiles.map((made) => made.node));
  byId("tiles").className = view === "wipe" ? "wiping" : "";
  byId("tiles").style.setProperty("--edge", `${(100 * wipeEdge(set.width, wipe)) / set.width}%`);
  byId("tiles").dataset.drawn = `${index} ${view} ${byId("rate").value}`;
}

function fillSelect(id, options) {
  const select = byId(id);
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
  byId(`${id}-label`).hidden = options.length < 2;
}

function chooseImage(image) {
  const rate = byId("tiles").dataset.drawn ? chosenRate() : null;
  chosen = image;
  byId("thumbnails").childNodes.forEach((button, i) => {
    button.setAttribute("aria-pressed", String(images[i] === image));
  });
  const { series } = image.set;
  const models = [...new Set(series.map((s) => s.model).filter((m) => m !== null))];
  const codecs = series.flatMap((s, i) => (s.model === null ? [[String(i), s.label]] : []));
  fillSelect("model", models.map((m) => [m, m]));
  fillSelect("codec", codecs);
  const [low, high] = rateBounds();
  chooseRate(rate ?? Math.exp((low + high) / 2));
}

const VIEW_HELP = {
  reconstruction: "",
  difference: "Grey is no difference; four times the error is added to it, channel by channel.",
  wipe: "Left of the edge the reconstruction, right of it the original; drag over an image to move it.",
};

function startExplorer() {
  if (!images.length) return;
  byId("explorer").hidden = false;
  for (const image of images) {
    const name = `image ${image.index}`;
    const thumbnail = element("img", { src: image.set.originals[image.row], alt: name });
    const button = element("button", { type: "button", title: name }, thumbnail);
    button.addEventListener("click", () => chooseImage(image));
    byId("thumbnails").append(button);
  }
  for (const id of ["rate", "wipe"]) byId(id).addEventListener("input", drawTiles);
  for (const id of ["model", "codec"]) byId(id).addEventListener("change", drawTiles);
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    radio.addEventListener("change", () => {
      byId("wipe-label").hidden = radio.value !== "wipe";
      byId("view-help").textContent = VIEW_HELP[radio.value];
      drawTiles();
    });
  }
  byId("tiles").addEventListener("pointermove", (event) => {
    if (checked("view") !== "wipe" || !(event.target instanceof HTMLCanvasElement)) return;
    const frame = event.target.getBoundingClientRect();
    byId("wipe").value = Math.round((100 * (event.clientX - frame.left)) / frame.width);
    drawTiles();
  });
  chooseImage(images[0]);
}

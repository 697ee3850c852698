const pictures = data.pictures;
const loaded = new Map(); // data URI -> promise of an image
const differences = new Map(); // data URI -> canvas, of the chosen picture
let chosen = pictures[0];
let drawing = 0; // number of the latest drawing; older ones that finish late are dropped
const center = { x: 0.5, y: 0.5 }; // of the part that is shown, as fractions of the picture

const bppText = (bytes) => `${rateDigits((8 * bytes) / (chosen.width * chosen.height))}\u00a0bpp`;
const bytesText = (bytes) => `${bytes.toLocaleString("en")}\u00a0bytes`;
const zoom = () => Number(byId("zoom").value);

function load(uri) {
  if (!loaded.has(uri)) {
    const image = new Image();
    image.src = uri;
    loaded.set(uri, image.decode().then(() => image));
  }
  return loaded.get(uri);
}

function pixelsOf(image) {
  const canvas = element("canvas", { width: chosen.width, height: chosen.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return { canvas, context, pixels: context.getImageData(0, 0, canvas.width, canvas.height) };
}

/** Grey, plus four times the error. */
function differenceOf(uri, image, original) {
  if (!differences.has(uri)) {
    const { canvas, context, pixels } = pixelsOf(image);
    const from = pixelsOf(original).pixels.data;
    for (let i = 0; i < from.length; i++) {
      if (i % 4 === 3) continue;
      pixels.data[i] = 128 + 4 * (pixels.data[i] - from[i]); // clamped by the array
    }
    context.putImageData(pixels, 0, 0);
    differences.set(uri, canvas);
  }
  return differences.get(uri);
}

/** Left upper corner and sides of the part that is shown, in pixels of the picture. */
function part() {
  const [width, height] = [chosen.width / zoom(), chosen.height / zoom()];
  const place = (middle, side, whole) => Math.min(Math.max(middle * whole - side / 2, 0), whole - side);
  return [place(center.x, width, chosen.width), place(center.y, height, chosen.height), width, height];
}

function paint(canvas, image, original, edge) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  const context = canvas.getContext("2d");
  const [left, top, width, height] = part();
  context.imageSmoothingEnabled = canvas.width < width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
  if (edge === null) return;
  const cut = Math.round(edge * canvas.width);
  context.save();
  context.beginPath();
  context.rect(cut, 0, canvas.width - cut, canvas.height);
  context.clip();
  context.drawImage(original, left, top, width, height, 0, 0, canvas.width, canvas.height);
  context.restore();
}

function tile(name, method) {
  const canvas = element("canvas", { role: "img", tabindex: "0" });
  canvas.style.aspectRatio = `${chosen.width} / ${chosen.height}`;
  const bytes = element("span", { class: "bytes" });
  const psnr = element("span", { class: "psnr" });
  const note = element("span", { class: "remark" });
  const title = element("span", { class: method ? "name ink" : "name", style: method ? colors(method) : "" }, name);
  const shown = element("div", { class: "shown" }, canvas);
  const caption = element("figcaption", {}, title, element("span", { class: "numbers" }, bytes, psnr), note);
  return { node: element("figure", {}, shown, caption), canvas, bytes, psnr, note };
}

let tiles = []; // of the chosen picture: the original, then its methods

function describe(made, method, version, size, view) {
  made.bytes.textContent = `${bytesText(version.bytes)}, ${bppText(version.bytes)}`;
  made.psnr.textContent = version.psnr === null ? "exact" : `${version.psnr.toFixed(2)} dB`;
  const over = version.bytes > size;
  const ratio = (version.bytes / size).toFixed(version.bytes < 10 * size ? 1 : 0);
  made.note.textContent = over ? `cannot be so small: its smallest file, ${ratio} × the size` : version.label;
  made.note.classList.toggle("over", over);
  made.canvas.setAttribute(
    "aria-label",
    [chosen.name, method.name, view, made.bytes.textContent, made.psnr.textContent, made.note.textContent]
      .filter(Boolean).join(", "),
  );
}

async function drawTiles() {
  const number = ++drawing;
  const position = Number(byId("size").value);
  const size = chosen.sizes[position];
  const view = checked("view");
  const versions = chosen.methods.map((method) => method.versions[position]);
  const uris = versions.map((version) => chosen.images[version.image]);
  const [original, ...images] = await Promise.all([chosen.original, ...uris].map(load));
  if (number !== drawing) return;
  byId("size-value").textContent = `${bytesText(size)}, ${bppText(size)}`;
  byId("size").setAttribute("aria-valuetext", byId("size-value").textContent);
  byId("tiles").className = [view === "wipe" && "wiping", zoom() > 1 && "zoomed"].filter(Boolean).join(" ");
  const edge = byId("wipe").value / 100;
  byId("tiles").style.setProperty("--edge", `${100 * edge}%`);
  paint(tiles[0].canvas, original, original, null);
  images.forEach((image, i) => {
    const made = tiles[i + 1];
    describe(made, chosen.methods[i], versions[i], size, view);
    const shown = view === "difference" ? differenceOf(uris[i], image, original) : image;
    paint(made.canvas, shown, original, view === "wipe" ? edge : null);
  });
  byId("tiles").dataset.drawn = [pictures.indexOf(chosen), view, position, zoom()].join(" ");
  byId("tiles").dataset.part = part().join(" ");
}

function choosePicture(picture) {
  chosen = picture;
  differences.clear();
  [center.x, center.y] = [0.5, 0.5];
  byId("thumbnails").childNodes.forEach((button, i) => {
    button.setAttribute("aria-pressed", String(pictures[i] === picture));
  });
  tiles = [tile("original"), ...picture.methods.map((method) => tile(method.name, method))];
  tiles[0].bytes.textContent = `${picture.width} × ${picture.height} pixels`;
  tiles[0].canvas.setAttribute("aria-label", `${picture.name}, original`);
  byId("tiles").replaceChildren(...tiles.map((made) => made.node));
  byId("size").max = picture.sizes.length - 1;
  byId("size").value = Math.floor((picture.sizes.length - 1) / 2);
  byId("size").disabled = picture.sizes.length < 2;
  drawTiles();
}

/** Moves the part that is shown, by fractions of it. */
function move(x, y) {
  const clamp = (value) => Math.min(Math.max(value, 0.5 / zoom()), 1 - 0.5 / zoom());
  center.x = clamp(center.x + x / zoom());
  center.y = clamp(center.y + y / zoom());
  drawTiles();
}

const VIEW_HELP = {
  decoded: "",
  difference: "Grey is no difference; four times the error is added to it, channel by channel.",
  wipe: "Left of the edge the decoded picture, right of it the original; point at a picture to move the edge.",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function startPictures() {
  byId("explorer").hidden = false;
  byId("thumbnails").hidden = pictures.length < 2;
  for (const picture of pictures) {
    const thumbnail = element("img", { src: picture.original, alt: "" });
    const button = element("button", { type: "button" }, thumbnail, element("span", {}, picture.name));
    button.addEventListener("click", () => choosePicture(picture));
    byId("thumbnails").append(button);
  }
  for (const id of ["size", "wipe"]) byId(id).addEventListener("input", drawTiles);
  byId("zoom").addEventListener("change", () => move(0, 0));
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    radio.addEventListener("change", () => {
      byId("wipe-label").hidden = radio.value !== "wipe";
      byId("view-help").textContent = VIEW_HELP[radio.value];
      drawTiles();
    });
  }
  byId("tiles").addEventListener("pointermove", (event) => {
    if (!(event.target instanceof HTMLCanvasElement)) return;
    const frame = event.target.getBoundingClientRect();
    if (event.buttons && zoom() > 1) {
      move(-event.movementX / frame.width, -event.movementY / frame.height);
    } else if (checked("view") === "wipe") {
      byId("wipe").value = Math.round((100 * (event.clientX - frame.left)) / frame.width);
      drawTiles();
    }
  });
  byId("tiles").addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS) || zoom() === 1) return;
    event.preventDefault();
    move(...ARROWS[event.key].map((step) => step / 4));
  });
  addEventListener("resize", drawTiles);
  choosePicture(pictures[0]);
}

startPictures();

// Runs in the page after its own scripts: uses the controls as a reader would and notes what it sees.
const seen = { errors, resources: [] };
const wait = async (condition) => { while (!condition()) await new Promise((f) => setTimeout(f, 10)); };
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const drawn = (state) => wait(() => $("#tiles").dataset.drawn === state);
const set = (selector, value, type) => {
  $(selector).value = value;
  $(selector).dispatchEvent(new Event(type, { bubbles: true }));
};
const captions = () => all("#tiles figcaption").map((c) => [...c.querySelectorAll("span")]
  .filter((s) => !s.children.length).map((s) => plain(s.textContent)));
const plain = (text) => text.replaceAll("\u00a0", " ");
// Of a canvas: the pixel at fractions of its sides.
const pixel = (tile, x, y) => {
  const canvas = all("#tiles canvas")[tile];
  const spot = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return [...canvas.getContext("2d").getImageData(...spot, 1, 1).data].slice(0, 3);
};
const key = (tile, name) => all("#tiles canvas")[tile].dispatchEvent(
  new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

async function drive() {
  const last = $("#size").max;
  const middle = $("#size").value;
  await drawn(`0 decoded ${middle} 1`);
  set("#size", "0", "input");
  await drawn("0 decoded 0 1");
  seen.first = captions();
  seen.size = [$("#size-value").textContent, $("#size").getAttribute("aria-valuetext")].map(plain);
  seen.label = plain(all("#tiles canvas")[2].getAttribute("aria-label"));
  set("#size", last, "input");
  await drawn(`0 decoded ${last} 1`);
  seen.last = captions();
  seen.pixels = [pixel(0, 0.01, 0.01), pixel(1, 0.01, 0.01)];
  $('input[name="view"][value="difference"]').click();
  await drawn(`0 difference ${last} 1`);
  seen.difference = [pixel(0, 0.01, 0.01), pixel(1, 0.01, 0.01)];
  $('input[name="view"][value="wipe"]').click();
  set("#size", "0", "input");
  set("#wipe", "50", "input");
  await drawn("0 wipe 0 1");
  seen.wipe = [pixel(1, 0.01, 0.01), pixel(1, 0.99, 0.99), $("#wipe-label").hidden];
  $('input[name="view"][value="decoded"]').click();
  set("#zoom", "8", "change");
  await drawn("0 decoded 0 8");
  key(0, "ArrowLeft");
  for (let i = 0; i < 40; i++) { key(0, "ArrowLeft"); key(0, "ArrowUp"); }
  await wait(() => $("#tiles").dataset.part.startsWith("0 0 "));
  seen.corner = pixel(0, 0.01, 0.01);
  all("#thumbnails button")[1].click();
  await drawn(`1 decoded ${Math.floor($("#size").max / 2)} 8`);
  seen.other = [all("#thumbnails button").map((b) => b.getAttribute("aria-pressed")), captions()[0], captions()[2]];
  seen.alone = $("#size").disabled;
  seen.names = all("#thumbnails button").map((b) => b.textContent);
  seen.rates = [0.01234, 999.4, 999.6, 1984].map(rateDigits);
  seen.width = innerWidth;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.resources = performance.getEntriesByType("resource").map((e) => e.name)
    .filter((name) => !/^(data|blob):/.test(name));
}
drive().catch((e) => seen.errors.push(String(e))).finally(() => parent.postMessage(JSON.stringify(seen), "*"));

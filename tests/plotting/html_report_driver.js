// Runs in the report after its own scripts: uses the controls as a reader would and notes what it sees.
const seen = { errors, resources: [] };
const wait = async (condition) => { while (!condition()) await new Promise((f) => setTimeout(f, 10)); };
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const drawn = (state) => wait(() => $("#tiles").dataset.drawn === state);
const set = (selector, value, type) => {
  $(selector).value = value;
  $(selector).dispatchEvent(new Event(type, { bubbles: true }));
};
const key = (name) => $("#chart").dispatchEvent(new KeyboardEvent("keydown", { key: name }));
const marks = () => all("#chart .mark").length;
const readout = () => $("#readout").innerText.split(/\s*\n\s*/).join(" | ");
const captions = () => all("#tiles figcaption").map((c) => [...c.querySelectorAll("span")]
  .filter((s) => !s.children.length).map((s) => s.textContent));
const pixel = (tile, x, y) => [...all("#tiles canvas")[tile].getContext("2d").getImageData(x, y, 1, 1).data];
const rows = () => all(".sortable tbody tr").map((row) => row.cells[3].dataset.value);

async function drive() {
  const top = $("#rate").max;
  await wait(() => $("#tiles").dataset.drawn);
  seen.marks = marks();
  const spot = all("#chart .mark")[0].getBoundingClientRect();
  const [clientX, clientY] = [spot.x + spot.width / 2, spot.y + spot.height / 2];
  $("#chart").dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
  seen.hovered = readout();
  $("#chart").dispatchEvent(new PointerEvent("pointerleave"));
  seen.left = readout();
  key("ArrowRight"); key("ArrowRight");
  seen.walked = readout();
  key("ArrowDown");
  seen.jumped = readout();
  key("ArrowUp"); key("ArrowUp"); key("ArrowRight");
  seen.last = readout();
  key("Escape");
  seen.escaped = readout();
  $("#legend button").click();
  seen.toggled = [marks(), $("#legend button").getAttribute("aria-pressed")];
  $("#legend button").click();
  $('input[name="scale"][value="linear"]').click();
  seen.linear = all("#chart text").map((t) => t.textContent);
  set("#measure", "2", "change");
  seen.fid = [marks(), $("#chart").getAttribute("aria-label"), all("#legend button:disabled").length];
  seen.caption = $("#caption").textContent;
  $("#ideal").click();
  seen.ideal = all("#chart .ideal").length;

  set("#rate", "0", "input");
  await drawn("0 reconstruction 0");
  seen.lowest = captions();
  set("#rate", top, "input");
  await drawn(`0 reconstruction ${top}`);
  seen.highest = captions();
  seen.pixel = [pixel(0, 3, 5), pixel(1, 3, 5)];
  $('input[name="view"][value="difference"]').click();
  await drawn(`0 difference ${top}`);
  seen.difference = pixel(1, 3, 5);
  $('input[name="view"][value="wipe"]').click();
  await drawn(`0 wipe ${top}`);
  seen.wipe = [pixel(1, 3, 5), pixel(1, 12, 5), $("#wipe-label").hidden];
  set("#codec", [...$("#codec").options].at(-1).value, "change");
  await wait(() => captions().at(-1)[0] === "WebP");
  all("#thumbnails button")[1].click();
  await wait(() => $("#tiles").dataset.drawn.startsWith("3 "));
  seen.image = [all("#thumbnails button").map((b) => b.getAttribute("aria-pressed")), captions().at(-1)];
  $('input[name="view"][value="reconstruction"]').click();
  const target = all("#chart .mark")[0].getBoundingClientRect();
  $("#chart").dispatchEvent(new MouseEvent("click", {
    clientX: target.x + target.width / 2, clientY: target.y + target.height / 2 }));
  await wait(() => $("#tiles").dataset.drawn.startsWith("3 reconstruction"));
  seen.jumpedTo = $("#rate-value").textContent;
  set("#measure", "0", "change");
  key("ArrowUp"); key("ArrowUp"); key("ArrowRight"); key("Enter");
  await wait(() => $("#rate-value").textContent !== seen.jumpedTo);
  seen.entered = $("#rate-value").textContent;

  all(".sortable thead button")[3].click();
  seen.ascending = rows();
  all(".sortable thead button")[3].click();
  seen.descending = rows();
  seen.csv = await saved.text();
  seen.width = innerWidth;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.resources = performance.getEntriesByType("resource").map((e) => e.name)
    .filter((name) => !/^(data|blob):/.test(name));
}
drive().catch((e) => seen.errors.push(String(e))).finally(() => parent.postMessage(JSON.stringify(seen), "*"));

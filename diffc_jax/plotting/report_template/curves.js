const PIXELS_PER_POINT = 1.4;
const LIMITS = { log: [0.02, 10], linear: [0, 5] };
const MARGIN = { left: 54, right: 12, top: 14, bottom: 44 };
const hiddenSeries = new Set();
let plotted = []; // markers of the figure: {series, point, x, y}
let current = null; // index into plotted

function marker(line, x, y, name = line.marker, scale = 1) {
  const shape = data.markers[name];
  const size = line.marker_size * PIXELS_PER_POINT * scale;
  return svg("path", {
    class: line.hollow || !shape.filled ? "mark hollow" : "mark",
    d: shape.path,
    transform: `translate(${x} ${y}) scale(${size})`,
    "stroke-width": line.edge_width * PIXELS_PER_POINT,
  });
}

function stroke(line, d, name = "line") {
  const dashes = name === "ideal" ? [1.2, 2.4] : line.dashes;
  const width = name === "ideal" ? 0.9 : line.width;
  const path = svg("path", { class: name, d, "stroke-width": width * PIXELS_PER_POINT });
  if (dashes.length) {
    path.setAttribute("stroke-dasharray", dashes.map((v) => v * PIXELS_PER_POINT).join(" "));
  }
  if (name === "ideal") path.setAttribute("opacity", 0.6);
  return path;
}

const polyline = (places) => places.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("");

/** Round numbers between low and high, about `count` of them. */
function ticks(low, high, log, count) {
  if (log && high / low > 4) {
    const steps = high / low > 1000 ? [1] : [1, 2, 5];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) found.push(Number(`${step}e${power}`));
    }
    return found.filter((v) => v >= low && v <= high);
  }
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) found.push(k * step);
  return found;
}

function axis(low, high, from, to, log) {
  const warp = log ? Math.log : (v) => v;
  const slope = (to - from) / (warp(high) - warp(low));
  return Object.assign((v) => from + slope * (warp(v) - warp(low)), { low, high, log });
}

/** The same limits as the printed figures. */
function rateLimits(points, scale) {
  const [low, high] = LIMITS[scale];
  const rates = points.map((p) => p.bpp).filter((r) => r > 0);
  if (!rates.length) return [scale === "log" ? low : 0, high];
  const least = Math.min(...rates);
  const most = Math.max(...rates);
  if (scale === "linear") return [0, least > high ? 1.05 * most : Math.min(high, 1.05 * most)];
  const limits = [Math.max(low, least / 1.15), Math.min(high, most * 1.15)];
  return limits[0] < limits[1] ? limits : [least / 1.15, most * 1.15];
}

/** Which edge a value lies on that no axis can hold: infinity the top, 0 the bottom of a log axis. */
function edgeOf(point, measure) {
  const value = toNumber(point[measure.column]);
  if (value === Infinity) return "top";
  return measure.log && value <= 0 ? "bottom" : null;
}

function valueLimits(points, measure, [low, high], scale) {
  const start = scale === "linear" ? high / 100 : low; // leaves the steep start to the other axis
  const values = points
    .filter((p) => p.bpp >= start && p.bpp <= high)
    .filter((p) => edgeOf(p, measure) === null)
    .map((p) => toNumber(p[measure.column]));
  if (!values.length) return measure.log ? [1, 10] : [0, 1];
  const least = Math.min(...values);
  const most = Math.max(...values);
  if (measure.log) return [least / 1.25, most * 1.25];
  const margin = 0.04 * Math.max(most - least, measure.least_span || 1e-3);
  return [least - margin, most + margin];
}

function drawAxes(chart, x, y, box, measure) {
  const grid = svg("g");
  for (const value of ticks(x.low, x.high, x.log, box.right / 90)) {
    grid.append(
      svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }),
      svg("text", { x: x(value), y: box.bottom + 17, "text-anchor": "middle" }, show(value)),
    );
  }
  for (const value of ticks(y.low, y.high, y.log, 8)) {
    grid.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      svg("text", { x: box.left - 7, y: y(value) + 4, "text-anchor": "end" }, show(value)),
    );
  }
  const middle = (box.top + box.bottom) / 2;
  const fits = 6.2 * measure.axis.length < box.bottom - box.top;
  grid.append(
    svg("path", { class: "axis", fill: "none", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }),
    svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, "rate (bits per pixel)"),
    svg("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, fits ? measure.axis : measure.title),
  );
  chart.append(grid);
}

function drawSeries(layer, index, points, x, y, box, measure) {
  const series = data.series[index];
  const line = series.line;
  const inside = (p) => p.bpp > 0 && p.bpp >= x.low && p.bpp <= x.high;
  const value = (p) => toNumber(p[measure.column]);
  const finite = points.filter((p) => edgeOf(p, measure) === null && !(x.log && p.bpp <= 0));
  const group = svg("g", { class: "ink", style: colors(line), opacity: line.alpha });
  group.append(stroke(line, polyline(finite.map((p) => [x(p.bpp), y(value(p))]))));
  if (byId("ideal").checked) {
    const ideal = finite.filter((p) => p.bpp_kl > 0);
    if (ideal.length) group.append(stroke(line, polyline(ideal.map((p) => [x(p.bpp_kl), y(value(p))])), "ideal"));
  }
  for (const p of finite) {
    const px = x(p.bpp);
    const py = y(value(p));
    const sideways = p.bpp_stderr ?? 0;
    const upwards = measure.stderr ? (p[measure.stderr] ?? 0) : 0;
    if (sideways > 0) {
      const from = x(Math.max(p.bpp - sideways, x.log ? x.low / 10 : 0));
      group.append(svg("path", { class: "bar", opacity: 0.45, d: `M${from} ${py}H${x(p.bpp + sideways)}` }));
    }
    if (upwards > 0) {
      const ends = [y(value(p) - upwards), y(value(p) + upwards)];
      group.append(svg("path", { class: "bar", opacity: 0.45, d: `M${px} ${ends[0]}V${ends[1]}` }));
    }
    group.append(marker(line, px, py));
    if (inside(p) && value(p) >= y.low && value(p) <= y.high) plotted.push({ index, point: p, x: px, y: py });
  }
  layer.append(group);
  const edges = svg("g", { class: "ink", style: colors(line) });
  const onEdge = points.filter((p) => edgeOf(p, measure) !== null && inside(p));
  for (const p of onEdge) {
    const py = edgeOf(p, measure) === "top" ? box.top : box.bottom;
    edges.append(marker(line, x(p.bpp), py, "^", 1.4));
    plotted.push({ index, point: p, x: x(p.bpp), y: py });
  }
  layer.parentNode.append(edges);
}

function drawCurves() {
  const chart = byId("chart");
  const measure = data.measures[byId("measure").value];
  const scale = checked("scale");
  const width = byId("frame").clientWidth;
  const height = Math.round(Math.min(500, Math.max(320, 0.68 * width)));
  const box = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const measured = new Set(measure.points);
  const pointsOf = (series) => series.points.filter((i) => measured.has(i)).map((i) => data.points[i]);
  const visible = data.series.map((_, i) => i).filter((i) => !hiddenSeries.has(i));
  const points = visible.flatMap((i) => pointsOf(data.series[i]));
  const limits = rateLimits(points, scale);
  const x = axis(...limits, box.left, box.right, scale === "log");
  const y = axis(...valueLimits(points, measure, limits, scale), box.bottom, box.top, measure.log);

  chart.replaceChildren();
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.setAttribute("height", height);
  chart.setAttribute("aria-label", `Rate in bits per pixel against ${measure.axis}`);
  const clip = svg("clipPath", { id: "clip" });
  clip.append(svg("rect", { x: box.left, y: box.top - 6, width: box.right - box.left + 6, height: box.bottom - box.top + 6 }));
  chart.append(clip);
  drawAxes(chart, x, y, box, measure);
  const layer = svg("g", { "clip-path": "url(#clip)" });
  chart.append(layer);
  plotted = [];
  const order = [...visible].sort((a, b) => data.series[a].line.zorder - data.series[b].line.zorder);
  for (const i of order) drawSeries(layer, i, pointsOf(data.series[i]), x, y, box, measure);
  chart.append(svg("circle", { class: "halo", r: 8, visibility: "hidden" }));
  current = null;
  select(null);
  writeCaption(measure, points, points.length - plotted.length);
  data.series.forEach((series, i) => {
    const button = byId("legend").querySelector(`[data-series="${i}"]`);
    button.disabled = !pointsOf(series).length;
  });
}

/** What an infinite PSNR means. */
function exact(measure) {
  return measure.column === "psnr_mean" ? "an image that is exact" : "lossless";
}

function writeCaption(measure, points, outside) {
  const sentences = [];
  if (byId("ideal").checked) sentences.push("Dotted: ideal rate C, which no code is known to reach.");
  if (points.some((p) => p.bpp_stderr || (measure.stderr && p[measure.stderr]))) {
    sentences.push("Bars: standard error over the images.");
  }
  const edges = new Set(plotted.map(({ point }) => edgeOf(point, measure)));
  if (edges.has("top")) sentences.push(`Triangles on the top edge: ${exact(measure)}.`);
  if (edges.has("bottom")) sentences.push("Triangles on the bottom edge: distance 0 or less.");
  if (outside) sentences.push(`${outside} of ${points.length} points lie outside the axes.`);
  byId("caption").textContent = sentences.join(" ");
}

/** Shows the values of a marker: `place` is an index into `plotted`, or null for none. */
function select(place) {
  current = place;
  const readout = byId("readout");
  const halo = byId("chart").querySelector(".halo");
  readout.replaceChildren();
  halo.setAttribute("visibility", place === null ? "hidden" : "visible");
  if (place === null) return;
  const { index, point, x, y } = plotted[place];
  const series = data.series[index];
  const measure = data.measures[byId("measure").value];
  halo.setAttribute("cx", x);
  halo.setAttribute("cy", y);
  const rows = [
    ["rate", `${withError(point.bpp, point.bpp_stderr)} bpp`],
    ["", point.rate_kind === "file" ? "file bytes" : "upper bound"],
  ];
  if (point.bpp_headerless !== null) rows.push(["headerless", `${show(point.bpp_headerless)} bpp`]);
  if (point.bpp_kl !== null) rows.push(["ideal rate C", `${show(point.bpp_kl)} bpp`]);
  const value = toNumber(point[measure.column]);
  const unit = measure.column.startsWith("psnr") && Number.isFinite(value) ? " dB" : "";
  const error = measure.stderr ? point[measure.stderr] : null;
  rows.push([measure.title, value === Infinity ? `∞ (${exact(measure)})` : withError(value, error) + unit]);
  rows.push(["images", String(point.n_images)]);
  if (point.n_steps !== null) rows.push(["evaluations", `${point.n_steps} per image`]);
  const list = element("dl");
  for (const [name, text] of rows) list.append(element("dt", {}, name), element("dd", {}, text));
  readout.append(element("strong", {}, series.label), series.group.replace("\n", " "), list);
  const frame = byId("frame").getBoundingClientRect();
  const left = x + 14 + readout.offsetWidth > frame.width ? x - 14 - readout.offsetWidth : x + 14;
  const top = Math.min(y + 10, frame.height - readout.offsetHeight);
  readout.style.left = `${Math.max(0, Math.min(left, frame.width - readout.offsetWidth))}px`;
  readout.style.top = `${Math.max(0, top)}px`;
}

function nearestMarker(event, reach) {
  const frame = byId("chart").getBoundingClientRect();
  const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
  let best = null;
  let least = reach;
  plotted.forEach(({ x, y }, i) => {
    const distance = Math.hypot(x - px, y - py);
    if (distance < least) [best, least] = [i, distance];
  });
  return best;
}

function moveSelection(key) {
  if (!plotted.length) return;
  if (current === null) {
    const first = Math.min(...plotted.map((p) => p.index));
    return select(plotted.findIndex((p) => p.index === first));
  }
  const here = plotted[current];
  const along = plotted.map((p, i) => i).filter((i) => plotted[i].index === here.index);
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const next = along.indexOf(current) + (key === "ArrowRight" ? 1 : -1);
    return select(along[Math.max(0, Math.min(next, along.length - 1))]);
  }
  const lines = [...new Set(plotted.map((p) => p.index))].sort((a, b) => a - b);
  const step = key === "ArrowDown" ? 1 : lines.length - 1;
  const target = lines[(lines.indexOf(here.index) + step) % lines.length];
  const candidates = plotted.map((p, i) => i).filter((i) => plotted[i].index === target);
  const gap = (i) => Math.abs(plotted[i].x - here.x);
  select(candidates.reduce((a, b) => (gap(b) < gap(a) ? b : a)));
}

function buildLegend() {
  const legend = byId("legend");
  let group = null;
  data.series.forEach((series, i) => {
    if (series.group !== group) legend.append(element("h3", {}, series.group));
    group = series.group;
    const sample = svg("svg", { class: "ink", style: colors(series.line), "aria-hidden": "true", opacity: series.line.alpha });
    sample.append(stroke(series.line, "M0 7H38"), marker(series.line, 19, 7));
    const button = element("button", { type: "button", "aria-pressed": "true", "data-series": i }, sample, series.label);
    button.addEventListener("click", () => {
      if (!hiddenSeries.delete(i)) hiddenSeries.add(i);
      button.setAttribute("aria-pressed", String(!hiddenSeries.has(i)));
      drawCurves();
    });
    legend.append(button);
  });
}

function startCurves() {
  byId("curves").hidden = false;
  data.measures.forEach((measure, i) => byId("measure").append(element("option", { value: i }, measure.name)));
  byId("measure").value = data.default_measure;
  byId("ideal-label").hidden = !data.points.some((p) => p.bpp_kl !== null);
  buildLegend();
  const chart = byId("chart");
  for (const control of [byId("measure"), byId("ideal"), ...document.querySelectorAll('input[name="scale"]')]) {
    control.addEventListener("change", drawCurves);
  }
  chart.addEventListener("pointermove", (event) => select(nearestMarker(event, 30)));
  chart.addEventListener("pointerleave", () => select(null));
  chart.addEventListener("blur", () => select(null));
  chart.addEventListener("focus", () => current === null && chart.matches(":focus-visible") && moveSelection());
  chart.addEventListener("click", (event) => {
    const place = nearestMarker(event, 30);
    if (place !== null) chooseRate(plotted[place].point.bpp);
  });
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return select(null);
    if (event.key === "Enter" && current !== null) return chooseRate(plotted[current].point.bpp);
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    moveSelection(event.key);
  });
  new ResizeObserver(drawCurves).observe(byId("frame"));
  drawCurves();
}

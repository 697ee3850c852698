"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const checked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Infinity and NaN, which JSON has not, are written as text; an empty cell is null. */
const toNumber = (value) => (value === null ? NaN : Number(value));
const show = (value, digits = 5) =>
  Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : value > 0 ? "∞" : "?";
/** Never a power of ten: the least file of a tiny picture has thousands of bits per pixel. */
const rateDigits = (rate) =>
  rate < 999.5 ? rate.toPrecision(3) : Math.round(rate).toLocaleString("en");
const withError = (value, error) => show(value) + (error === null ? "" : ` ± ${show(error, 2)}`);

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Both colours of a line; the style sheet picks the one that suits the page. */
const colors = (line) => `--light:${line.color};--dark:${line.dark_color}`;

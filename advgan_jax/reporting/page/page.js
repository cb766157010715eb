"use strict";
// Text enters the page through textContent only, so nothing in it is markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const COLORS = 8, PAGE = 12;

function make(name, properties, ...children) {
  const node = document.createElement(name);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}
function draw(name, attributes, parent, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
function short(value) {
  if (value === null || value === undefined) return "\u2013";
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}
const percent = (share) => (100 * share).toFixed(1) + " %";

// Tables
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.value ?? "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // unknown ones last
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}

// Curves
const WIDTH = 320, HEIGHT = 150, LEFT = 46, BOTTOM = 20, TOP = 8, RIGHT = 10;
function chart(one) {
  const readout = make("output", {});
  const caption = make("figcaption", {}, make("b", { textContent: one.title }), readout);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", one.title);
  const points = one.series.flatMap((s) => s.points);
  const range = (i) => {
    let [low, high] = [Infinity, -Infinity];
    for (const p of points) { low = Math.min(low, p[i]); high = Math.max(high, p[i]); }
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const [xs, ys] = [range(0), range(1)];
  const x = (v) => LEFT + (WIDTH - LEFT - RIGHT) * (v - xs[0]) / (xs[1] - xs[0]);
  const y = (v) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (v - ys[0]) / (ys[1] - ys[0]);
  for (const share of [0, 0.5, 1]) {
    const value = ys[0] + share * (ys[1] - ys[0]);
    draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }, svg);
    draw("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, svg, short(value));
  }
  draw("text", { x: LEFT, y: HEIGHT - 5 }, svg, xs[0].toLocaleString("en"));
  draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, svg,
    "step " + xs[1].toLocaleString("en"));
  for (const series of one.series) {
    const path = series.points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`);
    const color = `var(--c${series.color % COLORS})`;
    draw("polyline", { class: "curve", points: path.join(" "), style: `stroke:${color}` }, svg);
    series.dot = draw("circle", { r: 3, cx: -9, cy: -9, style: `fill:${color}` }, svg);
  }
  const cursor = draw("line", { class: "cursor", x1: -9, x2: -9, y1: TOP, y2: HEIGHT - BOTTOM }, svg);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = xs[0] + (xs[1] - xs[0]) *
      ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    const texts = [];
    let step = xs[0];
    for (const series of one.series) {
      const near = series.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      series.dot.setAttribute("cx", x(near[0]));
      series.dot.setAttribute("cy", y(near[1]));
      step = near[0];
      texts.push(short(near[1]));
    }
    cursor.setAttribute("x1", x(step));
    cursor.setAttribute("x2", x(step));
    readout.textContent = `${texts.join(" | ")} at ${step.toLocaleString("en")}`;
  });
  svg.addEventListener("pointerleave", () => {
    readout.textContent = "";
    for (const node of [cursor, ...one.series.map((s) => s.dot)])
      for (const name of ["cx", "x1", "x2"])
        if (node.hasAttribute(name)) node.setAttribute(name, -9);
  });
  return make("figure", { className: "chart" }, caption, svg);
}
for (const place of document.querySelectorAll("[data-charts]")) {
  const group = data.charts[place.dataset.charts];
  place.append(...group.map(chart));
}

// Images, classes and pairs of the chosen attack
const gallery = document.getElementById("gallery");
if (gallery) {
  const get = (id) => document.getElementById(id);
  const [chosen, order, only] = ["attack", "order", "only"].map(get);
  const [back, next, count] = ["back", "next", "count"].map(get);
  let page = 0;

  const succeeded = (s, i) => s.targets[i] >= 0
    ? s.predictions[i] === s.targets[i] : s.predictions[i] !== s.labels[i];
  // Only these count: the rate of success leaves out the others.
  const counts = (s, i) => s.clean_predictions[i] === s.labels[i] && s.targets[i] !== s.labels[i];
  function listed(sample) {
    const all = [...sample.labels.keys()].filter((i) =>
      only.value === "all" ||
      (counts(sample, i) && succeeded(sample, i) === (only.value === "fooled")));
    const [field, sign] = order.value.split(" ");
    const values = sample[field];
    return values ? all.sort((a, b) => sign * (values[a] - values[b])) : all;
  }
  function tile(sample, kind, i) {
    const [columns, lines] = sample.grid, side = 69;
    const node = make("div", { className: `tile ${sample.sheets[kind]}`, title: kind });
    const height = side * sample.ratio;
    node.style.height = `${height}px`;
    node.style.backgroundSize = `${columns * side}px ${lines * height}px`;
    node.style.backgroundPosition =
      `${-(i % columns) * side}px ${-Math.floor(i / columns) * height}px`;
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", `${kind} image ${i}`);
    return node;
  }
  function item(sample, i) {
    const tiles = ["clean", "perturbation", "adversarial"].map((k) => tile(sample, k, i));
    const wanted = sample.targets[i] >= 0 ? `, wanted ${sample.targets[i]}` : "";
    const first = make("div", {}, "class ", make("b", { textContent: sample.labels[i] }),
      `: ${sample.clean_predictions[i]} \u2192 `,
      make("b", { className: "after", textContent: sample.predictions[i] }), wanted);
    const margin = sample.margin ? `, margin ${short(sample.margin[i])}` : "";
    const second = `L2 ${short(sample.l2[i])}, L\u221e ${short(sample.linf[i])}${margin}`;
    const state = !counts(sample, i) ? "" : succeeded(sample, i) ? "fooled" : "held";
    return make("figure", { className: `item ${state}` },
      make("div", { className: "row" }, ...tiles),
      make("figcaption", {}, first, make("div", { textContent: second })));
  }
  function showImages(sample) {
    get("images").hidden = !sample.images;
    if (!sample.images) return;
    const rows = listed(sample.images), pages = Math.max(1, Math.ceil(rows.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = rows.slice(page * PAGE, (page + 1) * PAGE);
    gallery.replaceChildren(...shown.map((i) => item(sample.images, i)));
    count.textContent = rows.length
      ? `${page * PAGE + 1}\u2013${page * PAGE + shown.length} of ${rows.length}` : "none";
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
    get("scale").textContent = sample.images.scale;
  }
  function matrix(values, title, rowName, columnName, text) {
    const table = make("table", { className: "matrix" });
    table.append(make("caption", { textContent: `${title}: ${rowName} down, ${columnName} across` }));
    const top = table.insertRow();
    top.append(make("th", {}), ...values.map((_, i) => make("th", { textContent: i })));
    const most = Math.max(...values.flat().filter((v) => v !== null), 1e-9);
    values.forEach((line, i) => {
      const row = table.insertRow();
      row.append(make("th", { textContent: i }));
      line.forEach((value, j) => {
        const cell = row.insertCell();
        if (value === null) return;
        cell.textContent = text(value);
        cell.title = `${rowName} ${i}, ${columnName} ${j}: ${text(value)}`;
        cell.style.backgroundColor = `rgba(var(--heat), ${(0.5 * value / most).toFixed(3)})`;
      });
    });
    return make("div", { className: "wide" }, table);
  }
  function showClasses(sample) {
    const bars = get("classes"), pairs = get("pairs");
    bars.replaceChildren();
    sample.by_class[1].forEach((trials, k) => {
      if (!trials) return;
      const share = sample.by_class[0][k] / trials;
      const bar = make("i", {});
      bar.style.width = `${100 * share}%`;
      bars.append(make("span", { textContent: `class ${k}` }), make("div", {}, bar),
        make("span", { textContent: `${percent(share)} of ${trials}` }));
    });
    pairs.replaceChildren();
    if (sample.pairs) {
      const rates = sample.pairs[1].map((line, i) =>
        line.map((n, j) => n ? sample.pairs[0][i][j] / n : null));
      pairs.append(matrix(rates, "Success", "true class", "wanted class",
        (v) => (100 * v).toFixed(0)));
    } else if (sample.confusion) {
      pairs.append(matrix(sample.confusion, "Images under attack", "true class",
        "predicted class", (v) => v || ""));
    }
  }
  function show() {
    const sample = data.samples[chosen.value];
    showImages(sample);
    showClasses(sample);
  }
  for (const control of [chosen, order, only])
    control.addEventListener("change", () => { page = 0; show(); });
  back.addEventListener("click", () => { page -= 1; show(); });
  next.addEventListener("click", () => { page += 1; show(); });
  show();
}

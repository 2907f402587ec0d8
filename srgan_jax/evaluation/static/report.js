// The report of `srgan-jax evaluate`: which two images each slider shows, the difference map, links, sorting.
const data = JSON.parse(document.getElementById("data").textContent);
const figures = [...document.querySelectorAll(".images figure")];
const [left, right, gain] = ["left", "right", "gain"].map((id) => document.getElementById(id));
const shown = new WeakSet(); // figures whose images were asked for

function imageOf(key, method) {
  const image = new Image(), entry = data.images[key][method];
  image.src = entry.src;
  image.alt = `${key}: ${method}`;
  if (entry.nearest) image.style.imageRendering = "pixelated"; // the LR image itself, enlarged by the browser
  return image;
}

function show(figure) {
  const { key } = figure.dataset, slider = figure.querySelector("before-after");
  shown.add(figure);
  slider.show(imageOf(key, left.value), imageOf(key, right.value));
  const scores = (name) => data.scores[key][name] ? `${name} ${data.scores[key][name]}` : name;
  figure.querySelector(".scores").textContent = `${scores(left.value)}\n${scores(right.value)}`;
  link(figure);
}

function link(figure) {
  const slider = figure.querySelector("before-after");
  const view = { image: figure.dataset.key, left: left.value, right: right.value, difference: gain.value };
  Object.assign(view, { at: Math.round(slider.at), zoom: slider.zoom.toFixed(2), center: slider.center });
  figure.querySelector("a").href = `#${new URLSearchParams(view)}`;
}

function enlarge(figure, wide) {
  figure.classList.toggle("wide", wide);
  figure.querySelector(".size").textContent = wide ? "smaller" : "larger";
}

function draw() {
  document.body.classList.toggle("difference", gain.value !== "0");
  document.body.style.setProperty("--gain", gain.value);
  figures.filter((figure) => shown.has(figure)).forEach(show);
}

// Shows what the address says after "#": one image at one zoom.
function follow() {
  const view = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const figure = figures.find((other) => other.dataset.key === view.image);
  if (!figure) return;
  for (const [select, value] of [[left, view.left], [right, view.right], [gain, view.difference]]) {
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }
  draw();
  show(figure);
  enlarge(figure, true);
  const slider = figure.querySelector("before-after");
  if (view.at) slider.at = Number(view.at);
  if (view.zoom) slider.zoom = Number(view.zoom);
  if (view.center) slider.center = view.center;
  figure.scrollIntoView({ block: "start" });
}

for (const [select, chosen] of [[left, data.left], [right, data.right]]) {
  for (const method of data.methods) select.add(new Option(method, method, method === chosen, method === chosen));
}
for (const select of [left, right, gain]) select.addEventListener("change", draw);
const observer = new IntersectionObserver((entries) => { // images are read when they come near
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    if (!shown.has(target)) show(target);
  }
}, { rootMargin: "600px" });
for (const figure of figures) {
  observer.observe(figure);
  figure.querySelector("before-after").addEventListener("view", () => shown.has(figure) && link(figure));
  figure.querySelector(".size").addEventListener("click", () => {
    enlarge(figure, !figure.classList.contains("wide"));
    figure.scrollIntoView({ block: "nearest" });
  });
}
addEventListener("hashchange", follow);
follow();

for (const table of document.querySelectorAll(".sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].textContent;
    const number = (row) => ({ inf: 1e9, nan: -1e9 })[value(row)] ?? Number(value(row));
    const order = (a, b) => column < 3 ? value(a).localeCompare(value(b)) : number(a) - number(b);
    body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
  }));
}

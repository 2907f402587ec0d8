// The page: files in, a queue of jobs for the worker, and cards with the results.

import { convert, save } from "./save.js";
import { about, bytes, make, pixels, time } from "./words.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const jobs = []; // in the order of the page
let site, worker, engine = "waiting", current = null, lastSecond = 0;

const status = (text) => { $("status").textContent = text; };
const say = (text) => { $("summary").textContent = text; }; // for screen readers

main().catch((error) => {
  $("start").hidden = false;
  $("start").textContent = `The page can't start: ${error.message}`;
});

async function main() {
  const response = await fetch("site.json");
  if (!response.ok) throw new Error(`site.json: ${response.status}`);
  site = await response.json();
  for (const model of site.models) $("model").add(new Option(`${model.name}: ${model.purpose}`, model.name));
  $("model-choice").hidden = site.models.length < 2;
  $("model").addEventListener("change", showScale);
  showScale();
  $("about").append(...about(site));
  listen();
  $("start").hidden = true;
  $("choose").hidden = false;
  await registerServiceWorker();
  if (navigator.connection?.saveData) status("The engine is downloaded with your first picture (data saver is on).");
  else startWorker();
}

const chosenModel = () => site.models.find((model) => model.name === $("model").value);
function showScale() { $("scale").textContent = `${chosenModel().scale} times in width and height`; }

// Waits, briefly, until the service worker answers requests, so that it keeps the engine for use without network.
async function registerServiceWorker() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    if (navigator.serviceWorker.controller) return;
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 10000);
    });
  } catch (error) {
    console.warn(`no service worker: ${error.message}`); // the page works, but not without network
  }
}

function startWorker() {
  if (worker) return;
  engine = "loading";
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => handlers[data.type](data);
  worker.onerror = (event) => engineFailed(event.message || "its script can't be loaded");
  const backend = new URLSearchParams(location.search).get("backend"); // "wasm" or "webgpu", to try one
  worker.postMessage({ type: "start", backend });
}

function engineFailed(message) {
  worker?.terminate();
  worker = null;
  engine = "failed";
  $("loading").hidden = true;
  status(`The engine can't run: ${message}. Reload the page to try again.`);
  if (current) finish(current, "failed", message);
}

const handlers = {
  downloading({ loaded, total }) {
    if (engine !== "loading") return;
    $("loading").hidden = false;
    if (total) [$("loading").max, $("loading").value] = [total, loaded];
    const text = `Downloading the engine: ${bytes(loaded)}${total ? ` of ${bytes(total)}` : ""}`;
    if (!lastSecond || performance.now() - lastSecond > 1000) {
      status(text);
      lastSecond = performance.now();
    }
  },
  ready({ backend, threads, note }) {
    engine = "ready";
    $("loading").hidden = true;
    const offline = navigator.serviceWorker?.controller ? " It now works without network, too." : "";
    status(`Ready: ${backend === "webgpu" ? "WebGPU" : threadsText(threads)}.${note ? ` ${note}.` : ""}${offline}`);
    next();
  },
  opened({ id, width, height, hasAlpha, result, reduced }) {
    const job = byId(id);
    const large = reduced ? " It is shown reduced, and saved whole." : "";
    job.info.textContent = `${width} × ${height} → ${result.width} × ${result.height}, ${pixels(result)}` +
      `${hasAlpha ? ", with transparency" : ""}, by ${job.model.name}.${large}`;
    job.left.textContent = "computing the first tile";
  },
  progress({ id, done, total, secondsLeft }) {
    const job = byId(id);
    [job.bar.max, job.bar.value] = [total, done];
    job.left.textContent = done < total ? `${Math.round(100 * done / total)} %, ${time(secondsLeft)} left` : "writing the PNG";
  },
  done(data) {
    const job = byId(data.id);
    Object.assign(job, data);
    showResult(job);
    finish(job, "done", `Done in ${time(data.seconds)}.`);
  },
  failed({ id, message }) {
    if (id === null) engineFailed(message);
    else finish(byId(id), "failed", message);
  },
  cancelled({ id }) { finish(byId(id), "cancelled", "Cancelled."); },
};

function threadsText(threads) {
  const isolated = self.crossOriginIsolated;
  const more = !isolated && navigator.serviceWorker?.controller && navigator.hardwareConcurrency > 1;
  const hint = more ? " (reload the page to use more)" : "";
  return `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}${hint}`;
}

const byId = (id) => jobs.find((job) => job.id === id);
let count = 0;

function add(files) {
  for (const file of files) {
    const job = { id: ++count, file, model: chosenModel(), state: "waiting" };
    job.title = make("h2", {}, file.name || "pasted picture");
    job.info = make("p", {}, `${bytes(file.size)}, by ${job.model.name}`);
    job.bar = make("progress", { "aria-label": `progress of ${file.name}`, max: 1, value: 0 });
    job.left = make("p", {}, "waiting");
    job.stop = make("button", { type: "button", "aria-label": `Cancel ${file.name}` }, "Cancel");
    job.stop.addEventListener("click", () => cancel(job));
    job.card = make("li", {}, job.title, job.info, job.bar, job.left, job.stop);
    $("jobs").append(job.card);
    jobs.push(job);
  }
  startWorker();
  next();
}

function cancel(job) {
  job.stop.disabled = true;
  if (job === current) {
    job.left.textContent = "stopping after this tile";
    worker?.postMessage({ type: "cancel", id: job.id });
  } else finish(job, "cancelled", "Cancelled.");
}

function next() {
  if (engine !== "ready" || current) return;
  current = jobs.find((job) => job.state === "waiting") ?? null;
  if (!current) return;
  current.state = "working";
  current.left.textContent = "reading";
  worker.postMessage({ type: "upscale", id: current.id, file: current.file, model: current.model });
}

function finish(job, state, message) {
  job.state = state;
  job.bar.remove();
  job.stop.remove();
  job.left.textContent = state === "failed" ? `${job.file.name || "This picture"}: ${message}.` : message;
  job.left.className = state;
  const remove = make("button", { type: "button", "aria-label": `Remove ${job.file.name}` }, "Remove");
  remove.addEventListener("click", () => removeJob(job));
  const actions = job.actions ?? make("div", { class: "row" });
  actions.append(remove);
  job.card.append(actions);
  say(job.left.textContent);
  $("together").hidden = finished().length < 2;
  if (job === current) {
    current = null;
    next();
  }
}

const finished = () => jobs.filter((job) => job.state === "done");

function removeJob(job) {
  for (const url of job.urls ?? []) URL.revokeObjectURL(url);
  job.card.remove();
  jobs.splice(jobs.indexOf(job), 1);
  $("together").hidden = finished().length < 2;
  $("files").focus();
}

const resultName = (job, suffix) => `${(job.file.name || "picture").replace(/\.[^.]*$/, "")}_x${job.model.scale}${suffix}`;

function showResult(job) {
  const image = (blob, alt) => {
    const url = URL.createObjectURL(blob);
    (job.urls ??= []).push(url);
    return make("img", { src: url, alt });
  };
  const slider = make("before-after", { label: "line between your picture and the larger one" },
    image(job.file, "before"), image(job.preview ?? job.png, "after"));
  const png = make("a", { class: "save", download: resultName(job, ".png") }, `Save PNG (${bytes(job.png.size)})`);
  png.href = URL.createObjectURL(job.png);
  job.urls.push(png.href);
  job.actions = make("div", { class: "row" }, png);
  const problem = make("p", { class: "note", role: "status" });
  for (const [label, type, suffix] of [["JPEG", "image/jpeg", ".jpg"], ["WebP", "image/webp", ".webp"]]) {
    const button = make("button", { type: "button" }, `Save ${label}`);
    const reason = convert.obstacle(job, type);
    button.disabled = Boolean(reason);
    if (reason) problem.textContent = reason;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        save(await convert(job, type), resultName(job, suffix));
        problem.textContent = type === "image/jpeg" && job.hasAlpha ? "JPEG has no transparency: it was laid on white." : "";
      } catch (error) {
        problem.textContent = `${label} can't be written: ${error.message}. Save it as PNG.`;
      }
      button.disabled = false;
    });
    job.actions.append(button);
  }
  job.left.after(slider, problem);
}

async function saveZip() {
  const used = new Map(), files = finished().map((job) => {
    const name = resultName(job, ""), before = used.get(name) ?? 0;
    used.set(name, before + 1);
    return { name: `${name}${before ? `_${before + 1}` : ""}.png`, blob: job.png };
  });
  $("zip-status").textContent = "writing";
  try {
    save(await zip(files), "larger.zip");
    $("zip-status").textContent = `${files.length} pictures, as PNG`;
  } catch (error) {
    $("zip-status").textContent = error.message;
  }
}

function listen() {
  $("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  $("choose").addEventListener("submit", (event) => event.preventDefault());
  $("zip").addEventListener("click", saveZip);
  const over = (is) => document.body.classList.toggle("over", is);
  document.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    add([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
  window.addEventListener("beforeunload", (event) => { if (current) event.preventDefault(); });
}

// The worker that computes: it loads ONNX Runtime Web and a model, and upscales one image at a time in tiles.
//
// Messages in: {type: "start", backend}, {type: "upscale", id, file, model}, {type: "cancel", id}.
// Messages out: downloading, ready, opened, progress, done, failed, cancelled.

import { open } from "./image.js";
import { PngWriter } from "./png.js";
import { fromPlanes, fromPlanesWithAlpha, spans, toPlanes } from "./tiles.js";

const RUNTIMES = { wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded"], webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"] };
const MOST_THREADS = 8, SESSIONS = 3;
const ACCEPTED = 0.5 / 255; // difference of WebGPU from wasm, of values in [0, 1]
const SHOWN_PIXELS = 40e6, SHOWN_SIDE = 16383, PREVIEW_SIDE = 4096; // a larger result is shown reduced

let ort, backend, note = "", cancelled = new Set();
const sessions = new Map(); // the last few, by model, shape and backend
const modelBytes = new Map();

self.onmessage = ({ data }) => {
  if (data.type === "start") start(data.backend).catch((error) => post("failed", { id: null, message: error.message }));
  if (data.type === "upscale") upscale(data);
  if (data.type === "cancel") cancelled.add(data.id);
};

const post = (type, fields = {}) => self.postMessage({ type, ...fields });
const turn = () => new Promise((resolve) => { // lets messages in
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(null);
});

// Loads the runtime: that with WebGPU where there is a GPU, or the smaller one.
async function start(wanted) {
  backend = wanted ?? (await hasGpu() ? "webgpu" : "wasm");
  const [script, engine] = RUNTIMES[backend];
  const url = (name) => new URL(`./runtime/${name}`, import.meta.url).href;
  const binary = await download(url(`${engine}.wasm`));
  ort = await import(url(script));
  await (await fetch(url(`${engine}.mjs`))).arrayBuffer(); // so that the service worker keeps it before it is needed
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.wasm.wasmPaths = { mjs: url(`${engine}.mjs`), wasm: url(`${engine}.wasm`) };
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = threads;
  post("ready", { backend, threads });
}

async function hasGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return Boolean(adapter) && !(adapter.isFallbackAdapter || adapter.info?.isFallbackAdapter);
  } catch {
    return false;
  }
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} can't be loaded: ${response.status} ${response.statusText}`);
  const total = Number(response.headers.get("x-size") || response.headers.get("content-length")) || 0;
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    post("downloading", { loaded, total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// Returns a function from planes [3, h, w] to SR [3, h * scale, w * scale].
async function session(model, height, width, provider) {
  const key = `${model.name} ${height} ${width} ${provider}`;
  let made = sessions.get(key);
  if (!made) {
    if (!modelBytes.has(model.name)) modelBytes.set(model.name, await download(new URL(model.file, import.meta.url).href));
    made = await ort.InferenceSession.create(modelBytes.get(model.name).slice(), {
      executionProviders: [provider],
      freeDimensionOverrides: { N: 1, H: height, W: width }, // all shapes are fixed
      graphOptimizationLevel: "all",
      ...(provider === "webgpu" && { extra: { session: { disable_cpu_ep_fallback: "1" } } }),
    });
  }
  sessions.delete(key);
  sessions.set(key, made); // at the end: used last
  while (sessions.size > SESSIONS) {
    const [oldest, unused] = sessions.entries().next().value;
    sessions.delete(oldest);
    await unused.release();
  }
  return async (planes) => {
    const { sr } = await made.run({ lr: new ort.Tensor("float32", planes, [1, 3, height, width]) });
    const values = sr.data;
    sr.dispose?.();
    return values;
  };
}

// Returns the function that computes tiles, by WebGPU only if a tile of the image agrees with wasm, and is faster.
async function chooseRun(model, height, width, planes) {
  if (backend !== "webgpu") return session(model, height, width, "wasm");
  const timed = async (run) => {
    const from = performance.now(), values = await run(planes.slice());
    return [values, performance.now() - from];
  };
  const reference = await session(model, height, width, "wasm");
  const [expected, wasmTime] = await timed(reference);
  try {
    const run = await session(model, height, width, "webgpu");
    await run(planes.slice()); // compiles
    const [found, gpuTime] = await timed(run);
    const difference = found.reduce((largest, value, index) => Math.max(largest, Math.abs(value - expected[index])), 0);
    if (!(difference <= ACCEPTED)) throw new Error(`WebGPU differs from WebAssembly by ${difference.toPrecision(2)}`);
    if (gpuTime > wasmTime) throw new Error("WebGPU is slower than WebAssembly here");
    return run;
  } catch (error) {
    note = `WebGPU isn't used: ${String(error.message).slice(0, 300)}`;
    backend = "wasm";
    post("ready", { backend, threads: ort.env.wasm.numThreads, note });
    return session(model, height, width, "wasm");
  }
}

async function upscale({ id, file, model }) {
  const started = performance.now();
  let image = null;
  try {
    image = await open(file);
    const result = { width: image.width * model.scale, height: image.height * model.scale };
    post("opened", { id, width: image.width, height: image.height, hasAlpha: image.hasAlpha, result, reduced: reduced(result) });
    const { png, preview } = await compute(id, image, model, result);
    const seconds = (performance.now() - started) / 1000;
    post("done", { id, png, preview, seconds, ...result, colorSpace: image.colorSpace, hasAlpha: image.hasAlpha, backend });
  } catch (error) {
    const stopped = cancelled.delete(id);
    post(stopped ? "cancelled" : "failed", { id, message: explained(error) });
  } finally {
    image?.close();
    cancelled.delete(id);
  }
}

function explained(error) {
  const text = String(error?.message ?? error);
  const memory = error instanceof RangeError || /memory|allocat|bad_alloc|OOM/i.test(text) || typeof error === "number";
  return memory ? `this browser's memory is too small for it (${text.slice(0, 120)})` : text;
}

const reduced = ({ width, height }) => width * height > SHOWN_PIXELS || Math.max(width, height) > SHOWN_SIDE;

async function compute(id, image, model, result) {
  const rows = spans(image.height, model.tile, model.halo, model.period);
  const columns = spans(image.width, model.tile, model.halo, model.period);
  const channels = image.hasAlpha ? 4 : 3, scale = model.scale;
  const png = new PngWriter(result.width, result.height, channels, image.colorSpace);
  const preview = reduced(result) ? new Preview(result, channels) : null;
  const total = rows.spans.length * columns.spans.length;
  let run = null, done = 0, from = 0;
  for (const row of rows.spans) {
    const strip = new Uint8Array((row.keepStop - row.keepStart) * scale * result.width * channels);
    for (const column of columns.spans) {
      await turn();
      if (cancelled.has(id)) throw new Error("cancelled");
      const rgba = image.read(column.start, row.start, columns.length, rows.length);
      if (!run) {
        run = await chooseRun(model, rows.length, columns.length, toPlanes(rgba));
        from = performance.now();
      }
      const tile = await upscaleTile(run, rgba, image.hasAlpha, rows.length, columns.length, scale);
      copyKept(tile, strip, row, column, columns.length, result.width, scale, channels);
      done++;
      const secondsLeft = (performance.now() - from) / 1000 / done * (total - done);
      post("progress", { id, done, total, secondsLeft });
    }
    await png.rows(strip);
    preview?.rows(strip);
  }
  return { png: await png.finish(), preview: preview && await preview.finish(image.colorSpace) };
}

async function upscaleTile(run, rgba, hasAlpha, height, width, scale) {
  if (!hasAlpha) return fromPlanes(await run(toPlanes(rgba)));
  const colours = (await run(toPlanes(rgba, { premultiply: true }))).slice();
  const alphas = await run(toPlanes(rgba, { alpha: true }));
  return fromPlanesWithAlpha(colours, alphas, rgba, height, width, scale);
}

function copyKept(tile, strip, row, column, tileWidth, stripWidth, scale, channels) {
  const top = (row.keepStart - row.start) * scale, bottom = (row.keepStop - row.start) * scale;
  const left = (column.keepStart - column.start) * scale, right = (column.keepStop - column.start) * scale;
  for (let y = top; y < bottom; y++) {
    const line = tile.subarray((y * tileWidth * scale + left) * channels, (y * tileWidth * scale + right) * channels);
    strip.set(line, ((y - top) * stripWidth + column.keepStart * scale) * channels);
  }
}

// A smaller copy of a result that is too large to be shown: means of squares of pixels.
class Preview {
  #factor; #width; #height; #from; #channels; #sums; #line = 0; #row = 0; #pixels;

  constructor({ width, height }, channels) {
    this.#factor = Math.ceil(Math.max(width, height) / PREVIEW_SIDE);
    this.#width = Math.max(1, Math.floor(width / this.#factor));
    this.#height = Math.max(1, Math.floor(height / this.#factor));
    this.#from = width;
    this.#channels = channels;
    this.#sums = new Float32Array(this.#width * channels);
    this.#pixels = new Uint8ClampedArray(this.#width * this.#height * 4).fill(255);
  }

  rows(strip) {
    const stride = this.#from * this.#channels;
    for (let at = 0; at < strip.length && this.#row < this.#height; at += stride) this.#add(strip, at);
  }

  #add(strip, at) {
    const factor = this.#factor, channels = this.#channels, sums = this.#sums;
    for (let x = 0, from = at; x < this.#width; x++) {
      for (let k = 0; k < factor; k++) for (let c = 0; c < channels; c++) sums[x * channels + c] += strip[from++];
    }
    if (++this.#line < factor) return;
    for (let x = 0; x < this.#width; x++) {
      const to = 4 * (this.#row * this.#width + x);
      for (let c = 0; c < channels; c++) this.#pixels[to + c] = sums[x * channels + c] / factor ** 2;
    }
    sums.fill(0);
    this.#line = 0;
    this.#row++;
  }

  async finish(colorSpace) {
    const canvas = new OffscreenCanvas(this.#width, this.#height);
    const image = new ImageData(this.#pixels, this.#width, this.#height, { colorSpace });
    canvas.getContext("2d", { colorSpace }).putImageData(image, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }
}

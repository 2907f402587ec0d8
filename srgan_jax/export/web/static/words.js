// Texts and elements of the page.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

export const pixels = ({ width, height }) => `${number(width * height / 1e6, 1)} megapixels`;

export function bytes(count) {
  if (count < 1e3) return `${count} bytes`;
  if (count < 1e5) return `${number(count / 1e3, 1)} kB`;
  return `${number(count / 1e6, 1)} MB`;
}

export function time(seconds) {
  if (seconds < 90) return `${number(seconds, seconds < 10 ? 1 : 0)} seconds`;
  return seconds < 5400 ? `${number(seconds / 60, 0)} minutes` : `${number(seconds / 3600, 1)} hours`;
}

const list = (entries) => make("dl", {}, ...entries.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]));

// Returns what is below the page: downloads, models, licences.
export function about({ runtime, models, made }) {
  const size = ({ wasm, webgpu }) => `${bytes(wasm)} where WebAssembly computes, ${bytes(webgpu)} where WebGPU does`;
  return [
    make("p", {}, `The engine is ONNX Runtime Web ${runtime.version} (Microsoft, licence MIT): ${size(runtime)}. It is ` +
      "downloaded once, from the server that this page comes from, and kept by the browser. The models below " +
      "are kept, too. The page sends nothing, asks no other server, and its security policy forbids that."),
    make("p", {}, "Results keep orientation, transparency and wide colours (as Display P3), not EXIF. " +
      "Pictures of more than 8 bits are read as 8 bits, and of an animation the first frame."),
    ...models.flatMap((model) => [
      make("h3", {}, model.name),
      list([["size", `${bytes(model.bytes)}, ${number(model.parameters, 0)} parameters in float16, computed in float32`],
        ["enlarges", `${model.scale} times in width and height`],
        ["tiles", model.exact ? `of at most ${model.tile} pixels, that overlap by ${2 * model.halo}: the result is that of the whole picture`
          : `of at most ${model.tile} pixels; a pixel depends on more than their overlap, so pixels beside seams may differ slightly`],
        ...model.about]),
    ]),
    make("p", { class: "note" }, `Made by ${made}.`),
  ];
}

// The tiles that cover an image: they overlap by twice the halo, the radius of the generator's receptive field, so that
// the pixels that are kept are those of the whole image. All tiles of an image have one shape.

// Returns the tiles along one axis as [{start, keepStart, keepStop}] and their length, all in LR pixels. Tiles start at
// multiples of `period`, and end at the image's end modulo `period`: networks with windows or strides divide the pixels
// of each tile as they divide those of the whole image.
export function spans(size, longest, halo, period) {
  if (size <= longest) return { length: size, spans: [{ start: 0, keepStart: 0, keepStop: size }] };
  const count = Math.ceil((size - 2 * halo) / (longest - 2 * halo));
  let length = Math.ceil((size - 2 * halo) / count) + 2 * halo, step;
  for (; ; length++) { // at most two periods, until neighbours overlap enough
    const last = size - length;
    step = Math.ceil(last / (count - 1) / period) * period;
    if (last % period === 0 && step <= length - 2 * halo) break;
  }
  const starts = Array.from({ length: count }, (_, index) => Math.min(index * step, size - length));
  const seams = starts.slice(1).map((start, index) => (starts[index] + length + start) >> 1);
  return {
    length,
    spans: starts.map((start, index) => ({
      start, keepStart: index ? seams[index - 1] : 0, keepStop: index < count - 1 ? seams[index] : size,
    })),
  };
}

// Writes a tile's RGBA bytes as the network's input [1, 3, H, W] in [0, 1]. With alpha, colours are multiplied by it,
// so that the colours of transparent pixels don't bleed into edges; `alpha` asks for alpha itself, as a gray image.
export function toPlanes(rgba, { premultiply = false, alpha = false } = {}) {
  const count = rgba.length / 4, planes = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    const opacity = rgba[4 * i + 3] / 255;
    for (let c = 0; c < 3; c++) {
      const value = rgba[4 * i + c] / 255;
      planes[c * count + i] = alpha ? opacity : premultiply ? value * opacity : value;
    }
  }
  return planes;
}

// Returns SR with bytes of RGB from planes [3, H, W] in [0, 1]: clipped, rounded half up.
export function fromPlanes(planes) {
  const count = planes.length / 3, bytes = new Uint8Array(3 * count);
  for (let c = 0, i = 0; c < 3; c++) {
    for (let p = 0; p < count; p++, i++) bytes[3 * p + c] = toByte(planes[i]);
  }
  return bytes;
}

// Returns SR with bytes of RGBA from SR of the multiplied colours and of alpha: colours are divided by alpha, and alpha
// stays between the extremes of its 3 x 3 neighbourhood in LR, so that constant areas stay constant.
export function fromPlanesWithAlpha(colours, alphas, rgba, height, width, scale) {
  const count = colours.length / 3, bytes = new Uint8Array(4 * count), smallest = 0.5 / 255;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let low = 255, high = 0;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const value = rgba[4 * (v * width + u) + 3];
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
      for (let k = 0; k < scale * scale; k++) {
        const p = (y * scale + Math.floor(k / scale)) * width * scale + x * scale + k % scale;
        const mean = (unit(alphas[p]) + unit(alphas[count + p]) + unit(alphas[2 * count + p])) / 3;
        const alpha = Math.min(Math.max(mean, low / 255), high / 255);
        bytes[4 * p + 3] = toByte(alpha);
        for (let c = 0; c < 3 && alpha >= smallest; c++) {
          bytes[4 * p + c] = toByte(unit(colours[c * count + p]) / Math.max(alpha, smallest));
        }
      }
    }
  }
  return bytes;
}

// Clips to [0, 1].
function unit(value) {
  if (value - value !== 0) throw new Error("the model's output isn't finite; choose another model");
  return Math.min(Math.max(value, 0), 1);
}

const toByte = (value) => Math.floor(255 * unit(value) + 0.5);

// Reads an image file in the worker: its announced size before it is decoded, then its pixels, tile by tile.

export const MOST_PIXELS = 100e6; // of an image that is opened: the browser holds 4 bytes of each
const HEADER_BYTES = 1 << 18;
const WIDE = 512; // longest side of the copy in which colours are looked at

// Returns {width, height} that the first bytes of a file announce, or null for formats that aren't known here.
export function announcedSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  const size = (width, height) => ({ width, height });
  try {
    if (text(1, 4) === "PNG") return size(view.getUint32(16), view.getUint32(20));
    if (text(0, 3) === "GIF") return size(view.getUint16(6, true), view.getUint16(8, true));
    if (text(0, 2) === "BM") return size(Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true)));
    if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return webpSize(view, text(12, 16), size);
    if (text(4, 8) === "ftyp") return isobmffSize(view, bytes, size);
    if (view.getUint16(0) === 0xffd8) return jpegSize(view, size);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a file that ends in its header
  }
  return null;
}

function webpSize(view, kind, size) {
  const three = (at) => 1 + (view.getUint16(at, true) | view.getUint8(at + 2) << 16);
  if (kind === "VP8X") return size(three(24), three(27));
  if (kind === "VP8 ") return size(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  const bits = view.getUint32(21, true);
  return size(1 + (bits & 0x3fff), 1 + (bits >>> 14 & 0x3fff));
}

// The largest "ispe" of AVIF and HEIC: a file may hold several images, such as a thumbnail.
function isobmffSize(view, bytes, size) {
  let found = null;
  for (let at = 0; at + 16 < bytes.length; at++) {
    if (view.getUint32(at) !== 0x69737065) continue;
    const next = size(view.getUint32(at + 8), view.getUint32(at + 12));
    if (!found || next.width * next.height > found.width * found.height) found = next;
  }
  return found;
}

function jpegSize(view, size) {
  for (let at = 2; at + 9 < view.byteLength;) {
    const marker = view.getUint16(at);
    const frame = marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);
    if (frame) return size(view.getUint16(at + 7), view.getUint16(at + 5));
    at += marker === 0xffff ? 1 : 2 + view.getUint16(at + 2);
  }
  return null;
}

const megapixels = (width, height) => `${(width * height / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} megapixels`;

// Opens an image file. Throws an Error whose message is for the user.
export async function open(file) {
  const header = new Uint8Array(await file.slice(0, HEADER_BYTES).arrayBuffer());
  if (!header.length) throw new Error("the file is empty");
  const announced = announcedSize(header);
  if (announced && announced.width * announced.height > MOST_PIXELS) {
    throw new Error(`it announces ${announced.width} × ${announced.height}, ` +
      `${megapixels(announced.width, announced.height)}: expected at most ${MOST_PIXELS / 1e6}. ` +
      "Use srgan-jax upscale for it, or a smaller image");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" });
  } catch {
    throw new Error("this browser can't read it as an image; expected PNG, JPEG, WebP, AVIF, GIF or BMP");
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    bitmap.close();
    throw new Error(`it has ${megapixels(bitmap.width, bitmap.height)}: expected at most ${MOST_PIXELS / 1e6}`);
  }
  return new OpenImage(bitmap);
}

class OpenImage {
  #bitmap; #canvas; #context;

  constructor(bitmap) {
    this.#bitmap = bitmap;
    this.width = bitmap.width;
    this.height = bitmap.height;
    this.colorSpace = isWide(bitmap) ? "display-p3" : "srgb";
    this.hasAlpha = this.#findAlpha();
    this.#canvas = null;
  }

  // Returns the RGBA bytes of a rectangle.
  read(x, y, width, height) {
    if (this.#canvas?.width !== width || this.#canvas.height !== height) {
      this.#canvas = new OffscreenCanvas(width, height);
      // Canvases hold colours multiplied by alpha, of which float16 loses less; older browsers ignore it.
      const colorType = this.hasAlpha ? "float16" : "unorm8";
      const options = { willReadFrequently: true, colorSpace: this.colorSpace, colorType };
      this.#context = this.#canvas.getContext("2d", options);
      this.#context.globalCompositeOperation = "copy";
    }
    this.#context.drawImage(this.#bitmap, x, y, width, height, 0, 0, width, height);
    return this.#context.getImageData(0, 0, width, height, { colorSpace: this.colorSpace }).data;
  }

  close() { this.#bitmap.close(); }

  #findAlpha() {
    const rows = Math.max(1, Math.min(this.height, Math.floor(1e6 / this.width)));
    for (let y = 0; y < this.height; y += rows) {
      const rgba = this.read(0, y, this.width, Math.min(rows, this.height - y));
      for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
    }
    return false;
  }
}

// Returns whether an image has colours outside sRGB: those change where a Display P3 canvas is read as sRGB and back.
// Transparent pixels are left out, as a canvas rounds their colours.
function isWide(bitmap) {
  const shrink = Math.min(1, WIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * shrink)), height = Math.max(1, Math.round(bitmap.height * shrink));
  const draw = (source, colorSpace) => {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { colorSpace, willReadFrequently: true });
    context.drawImage(source, 0, 0, width, height);
    return [canvas, context.getImageData(0, 0, width, height, { colorSpace: "display-p3" }).data];
  };
  const [wide, colours] = draw(bitmap, "display-p3");
  const [, clipped] = draw(wide, "srgb");
  return colours.some((value, index) => colours[index | 3] === 255 && Math.abs(value - clipped[index]) > 4);
}

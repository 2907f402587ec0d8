// Saving a result: as the PNG that the worker wrote, or converted by a canvas, which holds less than a PNG can.

const MOST_SIDE = 16383, MOST_PIXELS = 100e6; // of a canvas that browsers commonly hold; WebP's largest side
const QUALITY = 0.92;

// Returns why a result can't be converted to a type, or "".
function obstacle({ width, height }) {
  if (Math.max(width, height) <= MOST_SIDE && width * height <= MOST_PIXELS) return "";
  return `JPEG and WebP need a canvas of the browser, of at most ${MOST_PIXELS / 1e6} megapixels and ` +
    `${MOST_SIDE} pixels a side: this result is saved as PNG only.`;
}

// Returns a finished job's result as a Blob of "image/jpeg" or "image/webp".
export async function convert({ png, width, height, colorSpace, hasAlpha }, type) {
  const bitmap = await createImageBitmap(png, { premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { colorSpace });
  if (hasAlpha && type === "image/jpeg") {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const blob = await canvas.convertToBlob({ type, quality: QUALITY });
  if (blob.type !== type) throw new Error("this browser doesn't write it");
  return blob;
}
convert.obstacle = obstacle;

// Saves a Blob among the downloads.
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

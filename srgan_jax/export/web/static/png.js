// Writes a PNG row by row: only compressed bytes are held, so a result may be larger than any canvas.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

// Returns the CRC-32 of PNG and ZIP; `crc` is that of the bytes before.
export function crc32(bytes, crc = 0) {
  crc = ~crc;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function chunk(kind, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

const numbers = (...values) => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, index) => view.setUint32(4 * index, value));
  return new Uint8Array(view.buffer);
};

// Chunks that state the colour space: cICP for readers of PNG's third edition, chromaticities for older ones.
const COLOR_CHUNKS = {
  srgb: [["sRGB", [0]]],
  "display-p3": [
    ["cICP", [12, 13, 0, 1]],
    ["gAMA", numbers(45455)],
    ["cHRM", numbers(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)],
  ],
};
const PART_BYTES = 1 << 16, BLOB_BYTES = 1 << 24;

export class PngWriter {
  #width; #channels; #parts; #pending = []; #pendingBytes = 0; #partBytes = 0; #deflate; #reading; #above;

  // `channels`: 3 for RGB, 4 for RGBA. `colorSpace`: a key of COLOR_CHUNKS.
  constructor(width, height, channels, colorSpace) {
    this.#width = width;
    this.#channels = channels;
    this.#above = new Uint8Array(width * channels);
    this.#parts = [new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]),
      chunk("IHDR", new Uint8Array([...numbers(width, height), 8, channels === 4 ? 6 : 2, 0, 0, 0])),
      ...COLOR_CHUNKS[colorSpace].map(([kind, data]) => chunk(kind, data))];
    const stream = new CompressionStream("deflate");
    this.#deflate = stream.writable.getWriter();
    this.#reading = this.#collect(stream.readable.getReader());
    this.#reading.catch(() => {}); // reported by `finish`
  }

  // Appends rows, as bytes of RGB or RGBA.
  async rows(bytes) {
    const row = this.#width * this.#channels, count = bytes.length / row;
    const filtered = new Uint8Array(count * (row + 1));
    for (let y = 0; y < count; y++) {
      const line = bytes.subarray(y * row, (y + 1) * row);
      this.#paeth(line, filtered.subarray(y * (row + 1), (y + 1) * (row + 1)));
      this.#above = line;
    }
    this.#above = this.#above.slice();
    await this.#deflate.ready;
    await this.#deflate.write(filtered);
  }

  // Returns the file.
  async finish() {
    await Promise.all([this.#deflate.close(), this.#reading]);
    this.#flush();
    return new Blob([...this.#parts, chunk("IEND", [])], { type: "image/png" });
  }

  // Filter 4 of PNG: the difference from left, above or above left, whichever predicts best.
  #paeth(line, out) {
    const back = this.#channels, above = this.#above;
    out[0] = 4;
    for (let i = 0; i < line.length; i++) {
      const a = i < back ? 0 : line[i - back], b = above[i], c = i < back ? 0 : above[i - back];
      const toA = Math.abs(b - c), toB = Math.abs(a - c), toC = Math.abs(a + b - 2 * c);
      out[i + 1] = line[i] - (toA <= toB && toA <= toC ? a : toB <= toC ? b : c);
    }
  }

  async #collect(reader) {
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      this.#pending.push(value);
      this.#pendingBytes += value.length;
      if (this.#pendingBytes >= PART_BYTES) this.#flush();
    }
  }

  #flush() {
    const data = new Uint8Array(this.#pendingBytes);
    let at = 0;
    for (const part of this.#pending) {
      data.set(part, at);
      at += part.length;
    }
    this.#pending = [];
    this.#pendingBytes = 0;
    if (!data.length) return;
    this.#parts.push(chunk("IDAT", data));
    this.#partBytes += data.length;
    if (this.#partBytes > BLOB_BYTES) { // browsers may keep blobs on the disk
      this.#parts = [new Blob(this.#parts)];
      this.#partBytes = 0;
    }
  }
}

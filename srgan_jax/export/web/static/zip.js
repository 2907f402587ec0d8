// Returns a ZIP of files, stored without compression, which images have already.

import { crc32 } from "./png.js";

const MOST_BYTES = 2 ** 32 - 2 ** 20;

// `files`: [{name, blob}], with different names. Throws where the result would need ZIP64.
export async function zip(files) {
  const parts = [], directory = [], encoder = new TextEncoder();
  let offset = 0;
  for (const { name, blob } of files) {
    const encoded = encoder.encode(name);
    const crc = await crcOf(blob);
    if (offset + blob.size > MOST_BYTES) throw new Error("a ZIP holds at most 4 GB; save the images one by one");
    const shared = [20, 0x0800, 0, 0, 0x21]; // version, names in UTF-8, stored, 00:00 of 1 January 1980
    const sizes = [crc, blob.size, blob.size];
    const head = bytes([[0x04034b50], shared, sizes, [encoded.length, 0]], [4, 2, 4, 2]);
    directory.push(bytes(
      [[0x02014b50], [20, ...shared], sizes, [encoded.length, 0, 0, 0, 0], [0, offset]], [4, 2, 4, 2, 4]), encoded);
    parts.push(head, encoded, blob);
    offset += head.length + encoded.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = bytes([[0x06054b50], [0, 0, files.length, files.length], [size, offset], [0]], [4, 2, 4, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Returns groups of little-endian numbers; `widths` are the bytes of each group's numbers.
function bytes(groups, widths) {
  const out = [];
  groups.forEach((group, index) => {
    for (const value of group) for (let k = 0; k < widths[index]; k++) out.push((value / 2 ** (8 * k)) & 255);
  });
  return new Uint8Array(out);
}

async function crcOf(blob) {
  const step = 1 << 22;
  let crc = 0;
  for (let at = 0; at < blob.size; at += step) {
    crc = crc32(new Uint8Array(await blob.slice(at, at + step).arrayBuffer()), crc);
  }
  return crc;
}

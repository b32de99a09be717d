// A zip file made in the browser: stored, not compressed, since pictures are compressed already.

import { Told } from "./words.js";

/** @typedef {{ path: string, blob: Blob }} Entry a file and where it stands: "cats/1.jpg" */

const MOST_FILES = 65_535; // and bytes: more would need zip64
const MOST_BYTES = 0xffff_ffff;
const CHUNK = 8 * 1024 * 1024; // bytes of a file that are read at once
const UTF8 = 0x0800; // names are
const FIRST_DAY = 0x0021; // 1 January 1980: the same pictures make the same file

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1;
  return value;
});

/**
 * Files are read one after the other for their checksums and never held in memory: the result refers to them.
 * Raises Told.
 * @param {Entry[]} entries
 * @param {(done: number) => void} [onProgress] `done` files were read
 * @returns {Promise<Blob>}
 */
export async function zip(entries, onProgress) {
  if (entries.length > MOST_FILES) {
    throw new Told("These are more than 65,535 files: zip the folder yourself, and drop the zip file");
  }
  if (entries.reduce((sum, { path, blob }) => sum + blob.size + 2 * path.length + 200, 0) > MOST_BYTES) {
    throw new Told("This is more than 4 GiB: zip smaller pictures, or fewer of them");
  }
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {BlobPart[]} */
  const directory = [];
  let [offset, listed] = [0, 0];
  for (const [index, { path, blob }] of entries.entries()) {
    const name = new TextEncoder().encode(path);
    const facts = described(await checksum(blob), blob.size, name.length);
    const local = bytes([4, 0x0403_4b50], [2, 20], ...facts);
    parts.push(local, name, blob);
    const central = bytes(
      [4, 0x0201_4b50],
      [2, 20],
      [2, 20],
      ...facts,
      ...[2, 2, 2].map((width) => /** @type {[number, number]} */ ([width, 0])), // comment, disk, attributes
      [4, 0],
      [4, offset],
    );
    directory.push(central, name);
    offset += local.length + name.length + blob.size;
    listed += central.length + name.length;
    onProgress?.(index + 1);
  }
  const { length } = entries;
  const end = bytes(
    [4, 0x0605_4b50],
    [2, 0],
    [2, 0],
    [2, length],
    [2, length],
    [4, listed],
    [4, offset],
    [2, 0],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/**
 * What both records of a file say of it.
 * @param {number} crc
 * @param {number} size
 * @param {number} nameLength
 * @returns {[width: number, value: number][]}
 */
const described = (crc, size, nameLength) => [
  [2, UTF8],
  [2, 0], // stored
  [2, 0], // midnight
  [2, FIRST_DAY],
  [4, crc],
  [4, size],
  [4, size],
  [2, nameLength],
  [2, 0],
];

/**
 * Little-endian numbers, each in 2 or 4 bytes.
 * @param {...[width: number, value: number]} fields
 */
function bytes(...fields) {
  const found = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(found.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return found;
}

/**
 * CRC-32.
 * @param {Blob} blob
 */
async function checksum(blob) {
  let crc = 0xffff_ffff;
  for (let start = 0; start < blob.size; start += CHUNK) {
    const chunk = new Uint8Array(await blob.slice(start, start + CHUNK).arrayBuffer());
    for (const byte of chunk) crc = (crc >>> 8) ^ Number(TABLE[(crc ^ byte) & 0xff]);
  }
  return ~crc >>> 0;
}

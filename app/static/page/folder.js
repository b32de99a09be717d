// What was chosen or dropped: one archive, or a folder with everything in it.

/** @import { Entry } from "./zip.js" */
/** @typedef {{ name: string, archive: File | null, entries: Entry[] }} Brought */

const MOST = 100_000; // files of a folder that are looked at
const ARCHIVE = /\.(zip|npz|csv|tsv|txt|parquet|((csv|tsv|txt)\.)?gz)$/i; // and tables

/**
 * @param {FileList | File[] | null} files of an input; those of a folder carry their paths
 * @returns {Brought | null}
 */
export function chosen(files) {
  const all = [...(files ?? [])];
  return brought(all.map((file) => ({ path: file.webkitRelativePath || file.name, blob: file })));
}

/**
 * What was dropped; folders are read to their ends.
 * @param {DataTransfer | null} transfer
 * @returns {Promise<Brought | null>}
 */
export async function dropped(transfer) {
  const roots = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry()); // it is empty after this turn
  const files = [...(transfer?.files ?? [])];
  if (roots.some((root) => !root)) return chosen(files); // made by a program, not taken from a disk
  /** @type {Entry[]} */
  const found = [];
  for (const root of roots) if (root) await walk(root, found);
  return brought(found);
}

/**
 * @param {Entry[]} entries
 * @returns {Brought | null}
 */
function brought(entries) {
  const [first] = entries;
  if (!first) return null;
  const name = (first.path.split("/")[0] ?? "").replace(ARCHIVE, "");
  const single = entries.length === 1 && first.blob instanceof File && ARCHIVE.test(first.path);
  return { name, archive: single ? /** @type {File} */ (first.blob) : null, entries: single ? [] : entries };
}

/**
 * @param {FileSystemEntry} entry
 * @param {Entry[]} found what there is so far
 */
async function walk(entry, found) {
  if (found.length >= MOST) return;
  if (entry.isFile) {
    const file = await new Promise((/** @type {(file: File) => void} */ done, failed) =>
      /** @type {FileSystemFileEntry} */ (entry).file(done, failed),
    );
    found.push({ path: entry.fullPath.replace(/^\//, ""), blob: file });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // 100 at a time
    if (!some.length) return;
    for (const each of some) await walk(each, found);
  }
}

/**
 * A name as data sets have it: small letters, digits and hyphens.
 * @param {string} text
 */
export const nameOf = (text) =>
  text
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, 64)
    .replace(/-+$/, "");

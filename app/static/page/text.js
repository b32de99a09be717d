// Numbers and times as people read them.

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/**
 * @param {number | null | undefined} share 0..1
 * @param {number} digits after the point
 */
export const percent = (share, digits = 2) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;

/** @param {number | null | undefined} number */
export const count = (number) => (number ?? 0).toLocaleString("en-GB");

/**
 * @param {number} number
 * @param {string} one
 * @param {string} many
 */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** @param {number} number */
export function bytes(number) {
  if (number < 1024) return `${number} B`;
  if (number < 1024 ** 2) return `${(number / 1024).toFixed(1)} KiB`;
  return number < 1024 ** 3
    ? `${(number / 1024 ** 2).toFixed(1)} MiB`
    : `${(number / 1024 ** 3).toFixed(1)} GiB`;
}

const TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

/**
 * The time of day.
 * @param {number} seconds from now
 */
export const clock = (seconds) => TIME.format(new Date(Date.now() + 1000 * seconds));

/** @param {string | null} text ISO 8601 */
export const when = (text) => (text ? DATE.format(new Date(text)) : "–");

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/**
 * The first cells of a row, in one line.
 * @param {Record<string, unknown>} row
 */
export const cells = (row) =>
  Object.entries(row)
    .slice(0, 8)
    .map(([name, cell]) => `${name} ${cell ?? "–"}`)
    .join(", ");

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * Phrases as sentences: "one. Two."
 * @param {(string | null | undefined)[]} phrases
 */
export const sentences = (...phrases) =>
  phrases
    .filter((phrase) => phrase)
    .map((phrase) => capital(String(phrase)).replace(/[.\s]*$/, "."))
    .join(" ");

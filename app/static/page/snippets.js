// A request as it is written in other languages, from the templates that /docs uses too (snippets.json).

/** @typedef {"picture" | "file" | "row" | "train"} Kind */
/**
 * @typedef {object} Templates
 * @property {Record<string, string>} languages their names
 * @property {Record<Kind, Record<string, string[]>>} snippets of each kind, by language, the lines
 */

/** @type {Promise<Templates> | null} */
let reading = null;

/** @returns {Promise<Templates>} */
export function templates() {
  reading ??= fetch(new URL("snippets.json", import.meta.url))
    .then((response) => response.json())
    .catch((error) => {
      reading = null; // the next time may find it
      throw error;
    });
  return reading;
}

/**
 * A template with these values: `{{url}}` as it is, `{{row|python}}` as a literal of that language. A line that begins
 * with `{{?key}}` is there only where the value `key` is true, one with `{{!key}}` where it is not.
 * @param {string[]} lines
 * @param {Record<string, unknown>} values
 */
export const filled = (lines, values) =>
  lines
    .filter((line) => belongs(line, values))
    .map((line) => line.replace(CONDITION, ""))
    .join("\n")
    .replace(/\{\{(\w+)(?:\|(\w+))?\}\}/g, (_, name, form) => (FORMS[form] ?? String)(values[name]));

const CONDITION = /^\{\{([?!])(\w+)\}\}/;

/**
 * @param {string} line
 * @param {Record<string, unknown>} values
 */
function belongs(line, values) {
  const [, sign, name = ""] = CONDITION.exec(line) ?? [];
  return !sign || Boolean(values[name]) === (sign === "?");
}

/** @type {Record<string, (value: unknown) => string>} */
const FORMS = {
  json: (value) => spaced(value, "json"),
  python: (value) => spaced(value, "python"),
  shell: (value) => `'${spaced(value, "json").replaceAll("'", "'\\''")}'`,
};
const WORDS = new Map(
  /** @type {[unknown, string][]} */ ([
    [null, "None"],
    [true, "True"],
    [false, "False"],
  ]),
);

/**
 * @param {unknown} value of JSON
 * @param {"json" | "python"} language
 * @returns {string}
 */
function spaced(value, language) {
  const one = (/** @type {unknown} */ part) => spaced(part, language);
  if (Array.isArray(value)) return `[${value.map(one).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).map(([name, part]) => `${one(name)}: ${one(part)}`);
    return `{${members.join(", ")}}`;
  }
  return (language === "python" && WORDS.get(value)) || JSON.stringify(value);
}

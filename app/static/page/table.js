// What an import found in a table: how it was read, classes and splits, lines left out.

import { h } from "./dom.js";
import { classSheet, folded, warnings } from "./profile.js";
import { count, plural } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */

/** @type {Record<string, string>} */
const SEPARATORS = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar" };

/**
 * @param {Wire.TableProfile | Wire.TableDraft} profile
 * @returns {(HTMLElement | null)[]}
 */
export function foundInTable(profile) {
  const { classes, counts, given } =
    profile.kind === "table"
      ? { classes: profile.classes, counts: profile.counts, given: profile.given_splits }
      : { classes: [], counts: {}, given: [] };
  const all = profile.rows;
  const how = profile.files.map(read).join(" ");
  return [
    warnings(profile.warnings),
    classes.length > 0
      ? classSheet({ names: classes, counts, given, all, what: "Rows", how })
      : preview(profile, how),
    bad(profile),
  ];
}

/** @param {Wire.TableFormat} file */
function read({ name, format, encoding, separator, header, rows }) {
  const how =
    format === "parquet"
      ? "parquet"
      : `${encoding}, ${SEPARATORS[separator ?? ""]} between values, ${header ? "names above" : "no names"}`;
  return `${name === "the file" ? "Read as" : `${name}:`} ${how}; ${plural(rows, "row")}.`;
}

/**
 * @param {Wire.TableProfile | Wire.TableDraft} profile
 * @param {string} how
 */
function preview(profile, how) {
  if (profile.kind !== "table-draft") return null;
  return h(
    "section.sheet",
    { "aria-labelledby": "preview-title" },
    h("h2", { id: "preview-title" }, "The first rows"),
    h("p.fine", how),
    rowsTable(
      profile.columns.map(({ name }) => name),
      profile.preview,
      "The first rows",
    ),
  );
}

/**
 * @param {string[]} names
 * @param {string[][]} rows
 * @param {string} title
 */
export function rowsTable(names, rows, title) {
  const table = h(
    "table.rows",
    h(
      "thead",
      h(
        "tr",
        names.map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    h(
      "tbody",
      rows.map((row) =>
        h(
          "tr",
          row.map((cell) => h("td", cell)),
        ),
      ),
    ),
  );
  return h("div.wide", { tabindex: "0", role: "region", "aria-label": `${title} in a table` }, table);
}

/** @param {Wire.TableProfile | Wire.TableDraft} profile */
function bad({ bad_rows: rows, bad_count: all, files }) {
  if (!all) return null;
  const several = files.length > 1;
  return h(
    "section.sheet.left-out",
    { "aria-labelledby": "left-out-title" },
    h("h2", { id: "left-out-title" }, "Lines left out"),
    folded(
      `${count(all)} with too many or too few values`,
      rows.map(({ file, line, reason }) => [
        h("b", `Line ${count(line)}${several ? ` of ${file}` : ""}`),
        `: ${reason}`,
      ]),
      all,
    ),
  );
}

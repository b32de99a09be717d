// Many rows: a file, or pasted text, sent to a model; its answers as a table, and as a file to keep.

import { fill, h, loading, note, trouble } from "./dom.js";
import { count, plural } from "./text.js";

/** @import { Api } from "./api.js" */

const SHOWN = 50; // answers
const COLUMNS = 6; // of them
/** @type {[ending: RegExp, type: string][]} */
const TYPES = [
  [/\.json$/i, "application/json"],
  [/\.parquet$/i, "application/vnd.apache.parquet"],
  [/\.(arrow|arrows|feather|ipc)$/i, "application/octet-stream"],
];

export class ManyRows {
  #url = ""; // of the answers
  #asked = 0;
  model = ""; // that is asked

  /**
   * @param {Api} api
   * @param {HTMLElement} host
   */
  constructor(api, host) {
    this.api = api;
    this.input = h("input", { type: "file", id: "rows-file", accept: ".csv,.tsv,.txt,.json,.parquet,.arrow" });
    this.input.onchange = () => {
      const [file] = this.input.files ?? [];
      if (file) this.send(file, file.name);
      this.input.value = "";
    };
    this.body = h("div", { id: "rows-answers" });
    this.said = h("p.visually-hidden", { role: "status" });
    fill(
      host,
      h("h2.minor", "Many rows"),
      h("p.fine", "Drop a CSV file here, or paste its text: a line of names, then a line for each row."),
      h("p.actions", h("label.file", this.input, h("span", "Choose a file"))),
      this.said,
      this.body,
    );
  }

  clear() {
    this.#asked += 1;
    fill(this.body);
  }

  /**
   * @param {Blob} what
   * @param {string} name of the file
   */
  async send(what, name) {
    const mine = ++this.#asked;
    const type = TYPES.find(([ending]) => ending.test(name))?.[1] ?? "text/csv";
    fill(this.body, loading("Asking about the rows"));
    try {
      const response = await this.api.request(`predict/batch?model=${encodeURIComponent(this.model)}`, {
        method: "POST",
        headers: { "content-type": type, accept: "text/csv" },
        body: what,
      });
      const text = await response.text();
      if (mine === this.#asked) this.#show(text, name);
    } catch (error) {
      if (mine === this.#asked) fill(this.body, trouble(error));
    }
  }

  /**
   * @param {string} text CSV: label, probability, that of each class, problem
   * @param {string} name
   */
  #show(text, name) {
    const [head = [], ...rows] = linesOf(text);
    const wrong = rows.filter((row) => row.at(-1)).length;
    const counts = new Map();
    for (const [label] of rows) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
    URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    const file = `${name.replace(/\.\w+$/, "")}-answers.csv`;
    const said = `${plural(rows.length, "row")}, ${wrong ? `${plural(wrong, "problem")}` : "no problem"}`;
    this.said.textContent = said;
    fill(
      this.body,
      h("p", `${said}. `, h("a", { id: "rows-download", href: this.#url, download: file }, `Download ${file}`)),
      h(
        "p.fine",
        [...counts]
          .sort((a, b) => b[1] - a[1])
          .slice(0, COLUMNS)
          .map(([label, number]) => `${label}: ${count(number)}`)
          .join(" · "),
      ),
      rows.length ? shown(head, rows) : note("empty", "No rows"),
      rows.length > SHOWN && h("p.fine", `The first ${SHOWN} are shown; the file has all.`),
    );
  }
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function shown(head, rows) {
  const classes = head.slice(2, -1).slice(0, COLUMNS);
  const names = ["Row", "Label", "Sure", ...classes];
  return h(
    "div.wide.listed",
    { tabindex: "0", role: "region", "aria-label": "Answers" },
    h(
      "table",
      h(
        "thead",
        h(
          "tr",
          names.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        rows.slice(0, SHOWN).map((row, index) => line(row, index + 1, classes.length)),
      ),
    ),
  );
}

/**
 * @param {string[]} row
 * @param {number} number
 * @param {number} classes that are shown
 */
function line(row, number, classes) {
  const problem = row.at(-1);
  const cells = problem
    ? [h("td.problem", { colspan: String(classes + 2) }, problem)]
    : [h("td", h("b", row[0])), ...row.slice(1, 2 + classes).map((share) => h("td", percentOf(share)))];
  return h("tr", h("th", { scope: "row" }, count(number)), cells);
}

/** @param {string} text 0..1 */
const percentOf = (text) => `${(100 * Number(text)).toFixed(1)} %`;

/**
 * @param {string} text CSV
 * @returns {string[][]}
 */
export function linesOf(text) {
  /** @type {string[][]} */
  const lines = [];
  /** @type {string[]} */
  let line = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    if (end === "" && !line.length && !plain && quoted === undefined) break; // behind the last line
    line.push(quoted === undefined ? (plain ?? "") : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    lines.push(line);
    line = [];
  }
  return lines;
}

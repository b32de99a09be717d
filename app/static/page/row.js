// A row of a table: a control for each column of the model, filled in with an example.

import { fill, h } from "./dom.js";
import { count } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @typedef {string | number | boolean | null} Cell */
/**
 * @typedef {object} Field
 * @property {HTMLElement} element
 * @property {() => Cell} read null: missing
 * @property {(cell: Cell) => void} write
 */

const OTHER = "other …";
const MISSING = "(missing)";
const FEW = 200; // categories that a list offers; of more, they are suggested while one types
const DAY = /%[Ymd]/g;

/** Says "change" when a cell has another value. */
export class RowForm extends EventTarget {
  /** @type {Map<string, Field>} */
  #fields = new Map();
  #columns = ""; // what is shown

  /** @param {HTMLElement} host */
  constructor(host) {
    super();
    this.host = host;
    this.cells = h("div.cells");
    host.addEventListener("input", () => this.#changed());
    host.addEventListener("submit", (event) => event.preventDefault());
  }

  get empty() {
    return this.#fields.size === 0;
  }

  /** @param {Wire.Column[]} columns */
  show(columns) {
    const key = JSON.stringify(columns);
    if (key === this.#columns) return;
    this.#columns = key;
    this.#fields = new Map(columns.map((column, index) => [column.name, field(column, `cell-${index}`)]));
    const example = () => this.#write((column) => column.example ?? column.categories[0] ?? null, columns);
    const clear = () => this.#write(() => null, columns);
    fill(
      this.host,
      filled(
        this.cells,
        [...this.#fields.values()].map(({ element }) => element),
      ),
      h(
        "p.actions",
        h("button", { type: "button", onclick: example }, "Example"),
        h("button", { type: "button", onclick: clear }, "All missing"),
      ),
    );
    example();
  }

  /**
   * A row in the place of the example.
   * @param {Record<string, unknown>} row
   */
  take(row) {
    for (const [name, { write }] of this.#fields) write(/** @type {Cell} */ (row[name] ?? null));
    this.#changed();
  }

  /** As the service takes it. */
  async picture() {
    const row = Object.fromEntries([...this.#fields].map(([name, { read }]) => [name, read()]));
    return { blob: new Blob([JSON.stringify(row)], { type: "application/json" }), name: "row.json" };
  }

  /**
   * @param {(column: Wire.Column) => Cell} cell
   * @param {Wire.Column[]} columns
   */
  #write(cell, columns) {
    for (const column of columns) this.#fields.get(column.name)?.write(cell(column));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {HTMLElement} element
 * @param {HTMLElement[]} children
 */
function filled(element, children) {
  fill(element, children);
  return element;
}

/**
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function field(column, id) {
  if (column.role === "numeric") return number(column, id);
  if (column.role === "boolean") return truth(column, id);
  if (column.role === "date") return day(column, id);
  return column.categories.length > FEW ? suggested(column, id) : listed(column, id);
}

/**
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function number({ name, minimum, maximum }, id) {
  const control = h("input", { id, type: "number", step: "any", "aria-describedby": `${id}-about` });
  const range = minimum === null || maximum === null ? "" : `${figure(minimum)} to ${figure(maximum)}`;
  return {
    element: cell(name, id, control, range),
    read: () => (control.value === "" ? null : Number(control.value)),
    write: (value) => {
      const text = String(value ?? "");
      control.value = typeof value === "string" ? text.replace(",", ".").trim() : text;
    },
  };
}

/**
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function truth({ name }, id) {
  const control = h("input", { id, type: "checkbox" });
  return {
    element: h("div.cell.tick", control, h("label", { for: id }, name)),
    read: () => control.checked,
    write: (value) => {
      control.checked = /^(true|t|yes|y|1|1\.0|on)$/i.test(String(value ?? "").trim());
    },
  };
}

/**
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function listed({ name, categories }, id) {
  const own = h("input", { type: "text", hidden: true, "aria-label": `${name}, another` });
  const options = categories.map((text, index) => h("option", { value: String(index) }, text || "(empty)"));
  const more = [h("option", { value: "other" }, OTHER), h("option", { value: "missing" }, MISSING)];
  const control = h("select", { id }, options, more);
  const shown = () => {
    own.hidden = control.value !== "other";
  };
  control.addEventListener("input", shown);
  return {
    element: cell(name, id, h("div.pick", control, own), ""),
    read: () =>
      control.value === "missing"
        ? null
        : control.value === "other"
          ? own.value || OTHER
          : (categories[Number(control.value)] ?? null),
    write: (value) => {
      const index = categories.indexOf(String(value));
      control.value = index >= 0 ? String(index) : value === null ? "missing" : "other";
      own.value = index >= 0 || value === null ? "" : String(value);
      shown();
    },
  };
}

/**
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function suggested({ name, categories }, id) {
  const control = h("input", { id, type: "text", list: `${id}-list`, "aria-describedby": `${id}-about` });
  const list = h(
    "datalist",
    { id: `${id}-list` },
    categories.map((value) => h("option", { value })),
  );
  return {
    element: cell(name, id, h("div.pick", control, list), `${count(categories.length)} known`),
    read: () => control.value || null,
    write: (value) => {
      control.value = String(value ?? "");
    },
  };
}

/**
 * By the browser's own calendar where the form of the date is one that it can be brought to.
 * @param {Wire.Column} column
 * @param {string} id
 * @returns {Field}
 */
function day({ name, date_format: form }, id) {
  const iso = form === null || form === "iso";
  const simple = iso || /^[^%]*(%[Ymd][^%]*){3}$/.test(form);
  const control = h("input", { id, type: simple ? "date" : "text", "aria-describedby": `${id}-about` });
  return {
    element: cell(name, id, control, simple ? "" : `as ${form}`),
    read: () => {
      if (!control.value || iso || !simple) return control.value || null;
      const [Y = "", m = "", d = ""] = control.value.split("-");
      const parts = { "%Y": Y, "%m": m, "%d": d };
      return form.replace(DAY, (part) => parts[/** @type {keyof typeof parts} */ (part)]);
    },
    write: (value) => {
      const text = String(value ?? "");
      control.value = iso ? text.slice(0, 10) : simple ? isoOf(text, form) : text;
    },
  };
}

/**
 * @param {string} text
 * @param {string} form with %Y, %m and %d
 */
function isoOf(text, form) {
  const found = text.match(/\d+/g) ?? [];
  const parts = Object.fromEntries((form.match(DAY) ?? []).map((part, index) => [part, found[index] ?? ""]));
  const { "%Y": Y = "", "%m": m = "", "%d": d = "" } = parts;
  return Y && m && d ? `${Y.padStart(4, "0")}-${m.padStart(2, "0")}-${d.padStart(2, "0")}` : "";
}

/**
 * @param {string} name
 * @param {string} id
 * @param {HTMLElement} control
 * @param {string} about
 */
const cell = (name, id, control, about) =>
  h("div.cell", h("label", { for: id }, name), control, h("p.fine", { id: `${id}-about` }, about));

/** @param {number} value */
const figure = (value) => Number(value.toPrecision(4)).toLocaleString("en-GB");

// Some rows of a table, as they came, by class and split.

import { Problem } from "./api.js";
import { fill, h, loading, note, trouble } from "./dom.js";
import { dataPath } from "./paths.js";
import { choice, same } from "./pictures.js";
import { rowsTable } from "./table.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const SOME = "24";

export class Rows {
  #asked = 0; // what was asked for before is not shown any more

  /**
   * @param {Api} api
   * @param {string} reference
   * @param {string[]} classes to choose from
   */
  constructor(api, reference, classes) {
    this.api = api;
    this.reference = reference;
    this.body = h("div", { "aria-live": "polite" });
    this.label = choice("Class", "of-class", [["", "all"], ...classes.map(same)]);
    this.split = choice("Split", "of-split", [["", "all"], ...["train", "validation", "test"].map(same)]);
    for (const { control } of [this.label, this.split]) control.onchange = () => this.#load();
    this.element = h(
      "section.sheet",
      { "aria-labelledby": "rows-title" },
      h("h2", { id: "rows-title" }, "Rows"),
      h("p.actions.which", this.label.element, this.split.element),
      this.body,
    );
    if (api.key) this.#load();
    else fill(this.body, this.#closed());
  }

  #closed() {
    const open = async () => {
      if (await this.api.needKey()) await this.#load();
    };
    return [
      h("p.fine", "They may be people's: they are shown with a key."),
      h("p.actions", h("button", { type: "button", onclick: open }, "Show them")),
    ];
  }

  async #load() {
    const mine = ++this.#asked;
    const search = new URLSearchParams({ limit: SOME });
    if (this.label.control.value) search.set("class", this.label.control.value);
    if (this.split.control.value) search.set("split", this.split.control.value);
    if (!this.body.querySelector("table")) fill(this.body, loading("Fetching"));
    try {
      /** @type {Wire.RowSampleBody[]} */
      const rows = await this.api.get(dataPath(this.reference, `/samples?${search}`));
      if (mine === this.#asked) fill(this.body, shown(rows));
    } catch (error) {
      if (mine !== this.#asked) return;
      const status = error instanceof Problem ? error.status : 0;
      fill(this.body, status === 401 || status === 403 ? this.#closed() : trouble(error, () => this.#load()));
    }
  }
}

/** @param {Wire.RowSampleBody[]} rows */
function shown(rows) {
  const [first] = rows;
  if (!first) return note("empty", "No rows", "This class has none in this split.");
  const names = Object.keys(first.values);
  return rowsTable(
    ["class", "split", ...names],
    rows.map(({ label, split, values }) => [label, split, ...names.map((name) => values[name] ?? "")]),
    "Rows",
  );
}

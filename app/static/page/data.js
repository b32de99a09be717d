// Data: the data sets that there are, how to bring one, and what is in it.

import { Bring } from "./bring.js";
import { DatasetPage, inWords } from "./dataset.js";
import { $, fill, h, loading, trouble } from "./dom.js";
import { pageOfData } from "./paths.js";
import { Shoot } from "./shoot.js";
import { count, plural, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const POLL = 3000; // ms, while something is imported

export class DatasetsView {
  /** @type {string[]} */
  #words = [];
  #shown = 0; // what was asked for before is not shown any more
  #timer = 0;
  #listed = ""; // what the list shows
  /** @type {DatasetPage | null} */
  #page = null;

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.bring = new Bring(api);
    this.shoot = new Shoot(api);
    this.list = h("div", { id: "sets" });
    this.all = [
      h("div.bring-side", this.bring.element, this.shoot.element),
      h("section", { "aria-labelledby": "sets-title" }, h("h2", { id: "sets-title" }, "Data sets"), this.list),
    ];
    api.addEventListener("back", () => {
      if (!$("data").hidden) this.show(this.#words);
    });
    this.#drops();
  }

  /**
   * #/data, #/data/NAME, #/data/NAME/VERSION.
   * @param {string[]} words
   */
  async show(words) {
    const [name, version] = words;
    this.leave();
    this.#words = words;
    $("data-title").textContent = name ?? "Data";
    if (!name) {
      fill($("data-body"), this.all);
      await this.#list();
      return;
    }
    this.#page = new DatasetPage(this.api, version ? `${name}@${version}` : name);
    fill($("data-body"), h("p", h("a", { href: "#/data" }, "← All data sets")), this.#page.element);
    await this.#page.show();
  }

  leave() {
    clearTimeout(this.#timer);
    this.#shown += 1;
    this.#page?.stop();
    this.#page = null;
    this.shoot.stop();
  }

  async #list() {
    const mine = this.#shown;
    if (!this.list.childElementCount) fill(this.list, loading("Reading the list of data sets"));
    try {
      /** @type {Wire.DatasetLine[]} */
      const sets = await this.api.get("datasets");
      if (mine !== this.#shown) return;
      this.#show(sets);
      const later = sets.some(({ status }) => status === "importing");
      if (later) this.#timer = setTimeout(() => this.#list(), POLL);
    } catch (error) {
      if (mine !== this.#shown) return;
      this.#listed = "";
      fill(
        this.list,
        trouble(error, () => this.#list()),
      );
    }
  }

  /** @param {Wire.DatasetLine[]} sets */
  #show(sets) {
    const now = JSON.stringify(sets);
    if (now === this.#listed) return;
    this.#listed = now;
    fill(this.list, h("ul.jobs.sets", { role: "list" }, sets.map(row)));
  }

  /** All of the list takes what is dropped, so that nothing is opened in place of the page. */
  #drops() {
    const view = $("data");
    const over = (/** @type {boolean} */ on) => this.bring.zone.classList.toggle("over", on);
    view.addEventListener("dragover", (event) => {
      event.preventDefault();
      over(true);
    });
    view.addEventListener("dragleave", () => over(false));
    view.addEventListener("drop", (event) => {
      over(false);
      if (this.#words.length) event.preventDefault();
      else this.bring.drop(event);
    });
  }
}

/** @param {Wire.DatasetLine} line */
function row(line) {
  const { name, version, status, built_in: builtIn, created_at: created } = line;
  return h(
    "li",
    h(
      "a",
      { href: pageOfData(name) },
      h("span.job-name", name, h("small", builtIn ? "comes with the service" : `version ${version}`)),
      h("span.fine", contents(line)),
      h("span.fine", created ? when(created) : ""),
      h("span.status", { "data-status": status }, inWords(status)),
    ),
  );
}

/** @param {Wire.DatasetLine} line */
function contents({ summary, status }) {
  if (!summary) return status === "failed" ? "nothing was imported" : "";
  const { classes, warnings } = summary;
  const what = "rows" in summary ? plural(summary.rows, "row") : `${count(summary.images)} pictures`;
  const told = classes === null ? "which column is the class?" : plural(classes, "class", "classes");
  return `${what}, ${told}${warnings ? `, ${plural(warnings, "warning")}` : ""}`;
}

// Runs: every training job in a table to sort and search; some of them side by side.

import { SideBySide } from "./beside.js";
import { $, fill, h, loading, note, trouble } from "./dom.js";
import { status } from "./job.js";
import { labels, labelsForm } from "./labels.js";
import { duration, percent, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Child } from "./dom.js" */
/** @typedef {{ job: Wire.JobBody, data: string, differs: string, test: number | null, seconds: number | null }} Row */
/** @typedef {{ name: string, of: (row: Row) => string | number | null, shown: (row: Row) => Child }} Column */

const MOST = 500; // jobs that are read
const PAGE = 100;
const NUMBERS = 5; // the first column that is sorted downwards first

/** @type {Column[]} */
const COLUMNS = [
  { name: "Model", of: ({ job }) => job.model, shown: ({ job }) => linkTo(job) },
  { name: "Name", of: ({ job }) => job.name, shown: ({ job }) => labels(job) ?? "–" },
  { name: "Recipe", of: ({ job }) => job.recipe, shown: ({ job }) => job.recipe },
  { name: "Data set", of: ({ data }) => data, shown: ({ data }) => data },
  { name: "What differs", of: ({ differs }) => differs, shown: ({ differs }) => differs || "–" },
  { name: "Test accuracy", of: ({ test }) => test, shown: ({ test }) => percent(test) },
  { name: "Time", of: ({ seconds }) => seconds, shown: ({ seconds }) => duration(seconds) },
  { name: "Status", of: ({ job }) => job.status, shown: ({ job }) => status(job.status) },
  { name: "Asked for", of: ({ job }) => job.created_at, shown: ({ job }) => when(job.created_at) },
];

export class RunsView {
  /** @type {Row[]} */
  #rows = [];
  /** @type {Set<string>} */
  #ticked = new Set(); // ids
  #by = COLUMNS.length - 1;
  #down = true;

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.search = h("input", { id: "runs-search", type: "search", oninput: () => this.#list() });
    this.table = h("div.wide", { tabindex: "0", role: "region", "aria-label": "Runs in a table" });
    this.beside = new SideBySide(api);
    api.addEventListener("back", () => {
      if (!$("runs").hidden) this.show();
    });
  }

  async show() {
    const host = $("runs-body");
    if (!this.#rows.length) fill(host, loading("Reading the list of runs"));
    try {
      /** @type {Wire.RecipeBody[]} */
      const recipes = await this.api.get("recipes").catch(() => []);
      this.#rows = (await this.#jobs()).map((job) => rowOf(job, recipes));
    } catch (error) {
      fill(
        host,
        trouble(error, () => this.show()),
      );
      return;
    }
    if (!this.#rows.length) {
      fill(host, note("empty", "No runs yet", "Start one under Train."));
      return;
    }
    const label = h("label", { for: "runs-search" }, "Search");
    const about = h("p.fine", "Tick some to see them side by side.");
    fill(host, h("p.line.search", label, this.search), about, this.table, this.beside.element);
    this.#list();
  }

  leave() {
    this.beside.show([]);
  }

  async #jobs() {
    /** @type {Wire.JobBody[]} */
    const found = [];
    for (let cursor = ""; found.length < MOST;) {
      /** @type {Wire.JobPage} */
      const page = await this.api.get(`train?limit=${PAGE}${cursor && `&cursor=${cursor}`}`);
      found.push(...page.jobs);
      if (!page.next) break;
      cursor = page.next;
    }
    return found;
  }

  #list() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const column = COLUMNS[this.#by];
    const rows = this.#rows.filter((row) => words.every((word) => textOf(row).includes(word)));
    if (column) rows.sort((a, b) => (this.#down ? -1 : 1) * compared(column.of(a), column.of(b)));
    fill(
      this.table,
      h(
        "table.runs",
        h("thead", h("tr", h("th", { scope: "col" }, "Tick"), COLUMNS.map(this.#head), h("td"))),
        h("tbody", rows.map(this.#row)),
      ),
    );
    this.#show();
  }

  /** @type {(column: Column, index: number) => HTMLElement} */
  #head = ({ name }, index) => {
    const mine = index === this.#by;
    const turn = () => {
      this.#down = mine ? !this.#down : index >= NUMBERS;
      this.#by = index;
      this.#list();
      const again = this.table.querySelectorAll("th button").item(index);
      if (again instanceof HTMLElement) again.focus();
    };
    const order = mine ? (this.#down ? "descending" : "ascending") : null;
    const arrow = mine ? (this.#down ? " ↓" : " ↑") : "";
    const button = h(
      "button.quiet",
      { type: "button", onclick: turn },
      name,
      h("span", { "aria-hidden": "true" }, arrow),
    );
    return h("th", { scope: "col", "aria-sort": order }, button);
  };

  /** @type {(row: Row) => HTMLElement} */
  #row = (row) => {
    const { id, model } = row.job;
    const box = h("input", { type: "checkbox", "aria-label": `Tick ${model} of ${when(row.job.created_at)}` });
    box.checked = this.#ticked.has(id);
    box.onchange = () => {
      if (box.checked) this.#ticked.add(id);
      else this.#ticked.delete(id);
      this.#show();
    };
    return h(
      "tr",
      h("td", box),
      COLUMNS.map((column) => h("td", column.shown(row))),
      h(
        "td",
        h("a", { href: `#/train?again=${id}` }, "Again"),
        h("button.quiet", { type: "button", onclick: () => this.#rename(row) }, "Name"),
      ),
    );
  };

  /** @param {Row} row */
  #rename(row) {
    const close = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const done = (/** @type {Wire.JobBody} */ job) => {
      row.job = job;
      dialog.close();
      this.#list();
    };
    const title = `${row.job.model} of ${when(row.job.created_at)}`;
    const form = labelsForm(this.api, row.job, done, "row-labels");
    form.querySelector(".actions")?.append(close);
    const dialog = h(
      "dialog.naming",
      { "aria-labelledby": "naming-title", onclose: () => dialog.remove() },
      h("h2", { id: "naming-title" }, title),
      form,
    );
    $("runs").append(dialog);
    dialog.showModal();
  }

  #show() {
    this.beside.show(this.#rows.filter(({ job }) => this.#ticked.has(job.id)).map(({ job }) => job));
  }
}

/** @param {Wire.JobBody} job */
const linkTo = (job) => h("a", { href: `#/train/${job.id}` }, job.model, job.version ? ` ${job.version}` : "");

/**
 * @param {Wire.JobBody} job
 * @param {Wire.RecipeBody[]} recipes
 * @returns {Row}
 */
function rowOf(job, recipes) {
  const { config, started_at: started, finished_at: ended } = job;
  const fields = recipes.find(({ name }) => name === job.recipe)?.fields ?? [];
  const changed = fields.filter(
    ({ name, default: usual }) => name !== "dataset" && name in config && config[name] !== usual,
  );
  return {
    job,
    data: String(config["dataset"] ?? "–"),
    differs: changed.map(({ name }) => `${name} ${config[name]}`).join(", "),
    test: job.decision?.accuracy ?? null,
    seconds: started && ended ? (Date.parse(ended) - Date.parse(started)) / 1000 : null,
  };
}

/** @param {Row} row */
const textOf = ({ job, data, differs }) =>
  [job.model, job.recipe, data, differs, job.status, job.name, job.notes, ...job.tags.map((tag) => `#${tag}`)]
    .join(" ")
    .toLowerCase();

/**
 * Numbers by size, texts by the alphabet, what is not there last.
 * @param {string | number | null} a
 * @param {string | number | null} b
 */
function compared(a, b) {
  if (a === null || b === null) return Number(a !== null) - Number(b !== null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b));
}

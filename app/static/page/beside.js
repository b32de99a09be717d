// Some runs side by side: their curves over each other, and the settings in which they differ.

import { fill, h, trouble } from "./dom.js";
import { Overlay } from "./overlay.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @typedef {{ name: string, epochs: Wire.Epoch[] }} Line */

const MOST = 6; // colours
const NOT_SETTINGS = ["name", "threads", "search"];

export class SideBySide {
  #asked = ""; // ids that are shown
  /** @type {Map<string, Wire.Epoch[]>} */
  #known = new Map(); // of jobs that have ended

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.element = h("div.stack");
    /** @type {Overlay[]} */
    this.plots = [];
  }

  /** @param {Wire.JobBody[]} jobs */
  async show(jobs) {
    const some = jobs.slice(0, MOST);
    const asked = some.map(({ id }) => id).join(" ");
    if (asked === this.#asked) return;
    this.#asked = asked;
    for (const plot of this.plots.splice(0)) plot.remove();
    if (some.length < 2) {
      this.element.replaceChildren();
      return;
    }
    try {
      const lines = await Promise.all(
        some.map(async (job) => ({ name: nameOf(job), epochs: await this.#epochs(job) })),
      );
      if (asked === this.#asked) this.#draw(some, lines);
    } catch (error) {
      fill(
        this.element,
        trouble(error, () => this.show(jobs)),
      );
    }
  }

  /**
   * @param {Wire.JobBody[]} jobs
   * @param {Line[]} lines
   */
  #draw(jobs, lines) {
    this.plots = [
      new Overlay("Held-out loss", lines, ({ loss }) => loss),
      new Overlay("Held-out accuracy", lines, ({ accuracy }) => accuracy),
    ];
    const smooth = h("input", { id: "smoothing", type: "range", min: 0, max: 0.95, step: 0.05, value: 0 });
    const log = h("input", { type: "checkbox" });
    const change = () => this.plots.forEach((plot) => plot.draw(Number(smooth.value), log.checked));
    smooth.oninput = log.onchange = change;
    fill(
      this.element,
      h(
        "section.sheet.beside",
        { "aria-labelledby": "beside-title" },
        h("h2", { id: "beside-title" }, "Side by side"),
        h(
          "p.line.how",
          h("label", { for: "smoothing" }, "Smoothing"),
          smooth,
          h("label", log, " Logarithmic scale"),
        ),
        h(
          "div.curves",
          this.plots.map(({ element }) => element),
        ),
        settings(jobs),
      ),
    );
    change();
  }

  /** @param {Wire.JobBody} job */
  async #epochs({ id, finished_at: ended }) {
    const known = this.#known.get(id);
    if (known) return known;
    /** @type {{ event: string, data: Wire.Epoch }[]} */
    const events = await this.api.get(`train/${encodeURIComponent(id)}/metrics`);
    const epochs = events.filter(({ event }) => event === "epoch").map(({ data }) => data);
    if (ended) this.#known.set(id, epochs);
    return epochs;
  }
}

/** @param {Wire.JobBody} job */
const nameOf = ({ id, model, version }) => `${model} ${version ?? id.slice(0, 4)}`;

/**
 * The settings that are not the same in all of them.
 * @param {Wire.JobBody[]} jobs
 */
function settings(jobs) {
  const names = [...new Set(jobs.flatMap(({ config }) => Object.keys(config)))].filter(
    (name) =>
      !NOT_SETTINGS.includes(name) && new Set(jobs.map(({ config }) => JSON.stringify(config[name]))).size > 1,
  );
  if (!names.length) return h("p", "They have the same settings.");
  const title = "Settings that differ";
  return h(
    "div.wide",
    { tabindex: "0", role: "region", "aria-label": title },
    h(
      "table.runs",
      h("caption", title),
      h(
        "thead",
        h(
          "tr",
          h("td"),
          jobs.map((job) => h("th", { scope: "col" }, nameOf(job))),
        ),
      ),
      h(
        "tbody",
        names.map((name) =>
          h(
            "tr",
            h("th", { scope: "row" }, name),
            jobs.map(({ config }) => h("td", String(config[name] ?? "–"))),
          ),
        ),
      ),
    ),
  );
}

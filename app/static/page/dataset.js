// One data set: its import as it goes, what was found, its pictures, and what can be done with it.

import { Away, Problem } from "./api.js";
import { act, fill, h, loading, note, trouble } from "./dom.js";
import { save } from "./files.js";
import { randomKey } from "./form.js";
import { ColumnsForm, TargetAgain } from "./columns.js";
import { OptionsForm } from "./options.js";
import { dataPath, pageOfData } from "./paths.js";
import { Pictures } from "./pictures.js";
import { nameInput } from "./bring.js";
import { found } from "./profile.js";
import { Rows } from "./rows.js";
import { foundInTable } from "./table.js";
import { allValid, field, markWrong } from "./setting.js";
import { bytes, count, duration, plural, sentences, when } from "./text.js";

import { plain } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

export class DatasetPage {
  #abort = new AbortController();

  /**
   * @param {Api} api
   * @param {string} reference NAME or NAME@VERSION
   */
  constructor(api, reference) {
    this.api = api;
    this.reference = reference;
    this.live = h("p.visually-hidden", { role: "status" });
    this.said = h("p.problem", { role: "alert" });
    this.bar = h("progress", { "aria-label": "Files read" });
    this.line = h("p.fine.progress-line");
    this.body = h("div.stack", loading("Reading the data set"));
    this.element = h("div.stack", this.live, this.body);
  }

  stop() {
    this.#abort.abort();
  }

  async show() {
    try {
      /** @type {Wire.DatasetBody} */
      const set = await this.api.get(dataPath(this.reference));
      if (this.#abort.signal.aborted) return;
      this.#show(set);
      if (set.status === "importing") await this.#follow(set);
    } catch (error) {
      if (this.#abort.signal.aborted || error instanceof Away) return; // the view shows it again
      fill(
        this.body,
        trouble(error, () => this.show()),
      );
    }
  }

  /**
   * The import, until it has ended.
   * @param {Wire.DatasetBody} set
   */
  async #follow({ reference, kind: of }) {
    const { signal } = this.#abort;
    const table = of === "table";
    for await (const { kind, data } of this.api.follow(dataPath(reference, "/events"), signal)) {
      if (kind === "step") this.#step(data, table);
    }
    if (!signal.aborted) await this.show();
  }

  /**
   * @param {{ step: number, steps: number | null, images_per_second: number | null, eta_seconds: number | null }} data
   * @param {boolean} table
   */
  #step({ step, steps, images_per_second: rate, eta_seconds: left }, table) {
    if (steps) {
      this.bar.max = steps;
      this.bar.value = step;
    }
    const parts = [
      table ? "Reading rows" : steps ? `${count(step)} of ${count(steps)} pictures` : `${count(step)} pictures`,
      rate && !table && `${count(Math.round(rate))} a second`,
      left && `about ${duration(left)} left`,
    ];
    this.line.textContent = parts.filter(Boolean).join(" · ");
  }

  /** @param {Wire.DatasetBody} set */
  #show(set) {
    this.live.textContent = `${set.name}: ${inWords(set.status)}`;
    fill(this.body, this.#head(set), set.profile ? this.#ready(set, set.profile) : this.#notReady(set));
  }

  /** @param {Wire.DatasetBody} set */
  #head(set) {
    const { name, version, status, built_in: builtIn, summary, versions } = set;
    return h(
      "div.sheet.set-head",
      h(
        "header.job-head",
        h("h2", builtIn ? "It comes with the service" : `Version ${version}`),
        h("span.status", { "data-status": status }, inWords(status)),
      ),
      summary &&
        h(
          "p",
          "rows" in summary ? ofTable(summary) : ofPictures(summary),
          builtIn ? "." : `; ${bytes(set.bytes)} with the file that came, ${when(set.created_at)}.`,
        ),
      set.corrections_of && h("p", `The corrections of ${set.corrections_of}.`),
      versions.length > 1 && this.#versions(name, version, versions),
      this.said,
      h("p.actions", this.#actions(set)),
    );
  }

  /**
   * @param {string} name
   * @param {number | null} shown
   * @param {Wire.DatasetLine[]} versions
   */
  #versions(name, shown, versions) {
    const links = versions.map(({ version, status }) =>
      h(
        "a",
        { href: pageOfData(name, version), "aria-current": version === shown && "true" },
        `Version ${version}${status === "ready" ? "" : ` (${inWords(status)})`}`,
      ),
    );
    return h("nav.set-versions", { "aria-label": "Versions" }, links);
  }

  /** @param {Wire.DatasetBody} set */
  #actions({ name, reference, status, kind, job, built_in: builtIn, versions }) {
    if (builtIn) return [h("a", { href: `#/train?dataset=${encodeURIComponent(name)}` }, "Train on it")];
    const say = (/** @type {string} */ text) => fill(this.said, text);
    const cancel = () => this.api.change("DELETE", `train/${encodeURIComponent(job ?? "")}`);
    const remove = async (/** @type {string} */ rest) => {
      await this.api.change("DELETE", dataPath(reference, rest));
      location.hash = versions.length > 1 ? pageOfData(name) : "#/data";
    };
    const force = () => act("Delete it all the same", () => remove("?force=true"), { say, sure: true });
    const ask = async () => {
      try {
        await remove("");
      } catch (error) {
        if (!(error instanceof Problem && error.status === 409)) throw error;
        fill(
          this.said,
          `${sentences(plain(error.detail))} Without it, that model's mistakes are not shown any more. `,
          force(),
        );
      }
    };
    return [
      status === "importing" && act("Cancel", cancel, { say }),
      status === "ready" && act("Export", () => this.#export(reference, kind === "table"), { say }),
      status !== "importing" && act("Delete", ask, { say, kind: "quiet", sure: true }),
    ];
  }

  /**
   * @param {string} reference
   * @param {boolean} table
   */
  async #export(reference, table) {
    const name = `${reference.replace("@", "-")}.${table ? "csv" : "zip"}`;
    await save(this.api, dataPath(reference, "/export"), name);
  }

  /**
   * @param {Wire.DatasetBody} set
   * @param {Wire.ImageProfile | Wire.TableProfile | Wire.TableDraft} profile
   */
  #ready(set, profile) {
    const again = () => this.show();
    if (profile.kind === "table-draft") {
      return [new ColumnsForm(this.api, set, profile, again).element, ...foundInTable(profile)];
    }
    if (profile.kind === "table") {
      return [
        this.#train(set),
        ...foundInTable(profile),
        new ColumnsForm(this.api, set, profile, again).element,
        new Rows(this.api, set.reference, profile.classes).element,
      ];
    }
    return [
      this.#train(set),
      ...found(profile),
      new Pictures(this.api, set.reference, profile.classes).element,
      new OptionsForm(this.api, set, profile).element,
    ];
  }

  /** @param {Wire.DatasetBody} set */
  #notReady(set) {
    if (set.built_in) return new Pictures(this.api, set.reference, []).element;
    if (set.status === "failed") {
      const why = note(
        "error",
        "It could not be imported",
        sentences(plain(set.error) || "no reason is known"),
      );
      return [why, set.kind === "table" && new TargetAgain(this.api, set).element];
    }
    this.line.textContent = "The import begins";
    return h("div.sheet.set-import", h("h2", "Import"), this.line, this.bar);
  }

  /** @param {Wire.DatasetBody} set */
  #train({ name, reference, kind }) {
    const model = nameInput("train-model");
    model.value = name;
    const said = h("p.problem", { role: "alert" });
    const button = h("button.strong", { type: "submit" }, "Train on this");
    const form = h(
      "form.sheet.set-train",
      { "aria-labelledby": "set-train-title", novalidate: true },
      h("h2", { id: "set-train-title" }, "Train a model"),
      h(
        "p.fine",
        kind === "table"
          ? "Network and length are chosen by the table, and boosting is tried beside it. "
          : "Network, length and augmentation are chosen by the pictures. ",
        "How long it takes is told from its first steps on.",
      ),
      field("train-model", "Model", model, "It gets a new version; a new name makes a new model."),
      said,
      h(
        "p.actions",
        button,
        h("a", { href: `#/train?dataset=${encodeURIComponent(name)}` }, "Choose the settings"),
      ),
    );
    form.onsubmit = async (event) => {
      event.preventDefault();
      said.textContent = "";
      if (!allValid([model])) return;
      button.disabled = true;
      try {
        const body = { recipe: "auto", dataset: reference, model: model.value };
        /** @type {Wire.JobBody} */
        const job = await this.api.change("POST", "train", body, { "idempotency-key": randomKey() });
        location.hash = `#/train/${job.id}`;
      } catch (error) {
        said.textContent = markWrong([model], error);
      } finally {
        button.disabled = false;
      }
    };
    return form;
  }
}

/**
 * The status of a data set, for people.
 * @param {Wire.DatasetLine["status"]} status
 */
export const inWords = (status) => (status === "needs_target" ? "needs its target" : status);

/** @param {Wire.SummaryBody} summary */
function ofPictures({ images, classes, shape: [channels, height, width] }) {
  const colour = channels === 3 ? "colour" : "grey";
  return `${count(images)} pictures of ${count(classes)} classes, ${colour}, ${width} × ${height} pixels for the model`;
}

/** @param {Wire.TableSummaryBody} summary */
function ofTable({ rows, columns, target, classes }) {
  const told = target === null ? "" : `; ${target} is to be told, of ${count(classes)} classes`;
  return `${plural(rows, "row")} of ${plural(columns, "column")}${told}`;
}

// One data set: its import as it goes, what was found, its pictures, and what can be done with it.

import { Away, Problem } from "./api.js";
import { act, fill, h, loading, note, trouble } from "./dom.js";
import { randomKey } from "./form.js";
import { OptionsForm } from "./options.js";
import { dataPath, pageOfData } from "./paths.js";
import { Pictures } from "./pictures.js";
import { nameInput } from "./bring.js";
import { found } from "./profile.js";
import { allValid, field, markWrong } from "./setting.js";
import { bytes, capital, count, duration, sentences, when } from "./text.js";

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
  async #follow({ reference }) {
    const { signal } = this.#abort;
    for await (const { kind, data } of this.api.follow(dataPath(reference, "/events"), signal)) {
      if (kind === "step") this.#step(data);
    }
    if (!signal.aborted) await this.show();
  }

  /** @param {{ step: number, steps: number | null, images_per_second: number | null, eta_seconds: number | null }} data */
  #step({ step, steps, images_per_second: rate, eta_seconds: left }) {
    if (steps) {
      this.bar.max = steps;
      this.bar.value = step;
    }
    const parts = [
      steps ? `${count(step)} of ${count(steps)} pictures` : `${count(step)} pictures`,
      rate && `${count(Math.round(rate))} a second`,
      left && `about ${duration(left)} left`,
    ];
    this.line.textContent = parts.filter(Boolean).join(" · ");
  }

  /** @param {Wire.DatasetBody} set */
  #show(set) {
    this.live.textContent = `${set.name}: ${set.status}`;
    fill(this.body, this.#head(set), set.profile ? this.#ready(set, set.profile) : this.#notReady(set));
  }

  /** @param {Wire.DatasetBody} set */
  #head(set) {
    const { name, version, status, built_in: builtIn, summary, versions } = set;
    const [channels, height, width] = summary?.shape ?? [];
    return h(
      "div.sheet.set-head",
      h(
        "header.job-head",
        h("h2", builtIn ? "It comes with the service" : `Version ${version}`),
        h("span.status", { "data-status": status }, status),
      ),
      summary &&
        h(
          "p",
          `${count(summary.images)} pictures of ${count(summary.classes)} classes, `,
          `${channels === 3 ? "colour" : "grey"}, ${width} × ${height} pixels for the model`,
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
        `Version ${version}${status === "ready" ? "" : ` (${status})`}`,
      ),
    );
    return h("nav.set-versions", { "aria-label": "Versions" }, links);
  }

  /** @param {Wire.DatasetBody} set */
  #actions({ name, reference, status, job, built_in: builtIn, versions }) {
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
          `${sentences(error.detail)} Without it, that model's mistakes are not shown any more. `,
          force(),
        );
      }
    };
    return [
      status === "importing" && act("Cancel", cancel, { say }),
      status === "ready" && act("Export", () => this.#export(reference), { say }),
      status !== "importing" && act("Delete", ask, { say, kind: "quiet", sure: true }),
    ];
  }

  /** @param {string} reference */
  async #export(reference) {
    const response = await this.api.request(dataPath(reference, "/export"));
    const url = URL.createObjectURL(await response.blob());
    h("a", { href: url, download: `${reference.replace("@", "-")}.zip` }).click();
    URL.revokeObjectURL(url);
  }

  /**
   * @param {Wire.DatasetBody} set
   * @param {Wire.Profile} profile
   */
  #ready(set, profile) {
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
      return note("error", "It could not be imported", `${capital(set.error ?? "no reason is known")}.`);
    }
    this.line.textContent = "The import begins";
    return h("div.sheet.set-import", h("h2", "Import"), this.line, this.bar);
  }

  /** @param {Wire.DatasetBody} set */
  #train({ name, reference }) {
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
        "Network, length and augmentation are chosen by the pictures. How long it takes is told from its first steps on.",
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

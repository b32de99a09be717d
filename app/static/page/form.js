// What to train: a recipe, and what differs from it.

import { Away, Problem } from "./api.js";
import { Command } from "./command.js";
import { $, fill, h, loading, note, trouble } from "./dom.js";
import { mismatch } from "./mismatch.js";
import { foretold } from "./pace.js";
import { allValid, field, markWrong, select, setting, valueOf } from "./setting.js";
import { subjectOf } from "./subjects.js";
import { plural, sentences } from "./text.js";
import { told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Control } from "./setting.js" */
/** @typedef {{ model: string | null, dataset: string | null, feedback: boolean }} Wish what a link asks for */

const OWN = "auto"; // the recipe for data sets of one's own
const FINE_TUNE = "fine-tune"; // the one for corrections
const MAIN = ["dataset", "epochs", "lr", "batch_size", "optimizer", "schedule", "augment"]; // the rest is behind "More settings"
const NOT_SETTINGS = ["model", "recipe", "promote", "feedback"];
/** @type {Record<string, string>} */
export const PROMOTE = { if_better: "if it is not worse", always: "always", never: "never" };

export class RunForm {
  /** @type {Wire.RecipeBody[]} */
  #recipes = [];
  /** @type {Record<string, number> | null} */
  #waiting = null; // corrections by model; null: the service keeps none
  /** @type {string[]} */
  #sets = []; // data sets that people brought
  /** @type {Wire.ModelSummary[]} */
  #models = []; // that are served
  /** @type {Wire.JobBody[]} */
  #ended = []; // jobs that have succeeded, newest first
  #accepted = ""; // the warning that was there when Start was pressed

  /**
   * @param {Api} api
   * @param {HTMLFormElement} form
   */
  constructor(api, form) {
    this.api = api;
    this.form = form;
    this.said = h("p.problem", { id: "run-problem", role: "alert" });
    this.command = new Command(api, h("details.request", { id: "run-request", hidden: true }));
    this.warning = h("p.warning", { id: "run-warning", role: "status", tabindex: "-1" });
    this.pace = h("span.fine", { id: "run-pace" });
    this.start = h("button.strong", { type: "submit" }, "Start training");
    form.addEventListener("input", () => this.#changed());
    form.addEventListener("change", () => this.#changed());
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
  }

  /**
   * Reads the recipes and fills the form in.
   * @param {Wish | null} wish
   */
  async load(wish) {
    const title = h("h2", { id: "run-title" }, "New run");
    const first = !this.#recipes.length;
    if (first) fill(this.form, title, loading("Reading the recipes"));
    try {
      const models = await this.#read();
      if (first) this.#build(models);
    } catch (error) {
      if (!first) return;
      const old = error instanceof Problem && error.status === 404;
      const none = note("empty", "No recipes here", "This service does not list its recipes.");
      fill(this.form, title, old ? none : trouble(error, () => this.load(wish)));
      return;
    }
    this.#offerSets();
    if (wish) await this.#prefer(wish);
    this.#offerFeedback();
    this.#changed();
  }

  async #read() {
    /** @type {[Wire.RecipeBody[], Wire.ModelSummary[], Wire.FeedbackBody | null, Wire.DatasetLine[], Wire.JobPage]} */
    const [recipes, models, feedback, sets, { jobs }] = await Promise.all([
      this.api.get("recipes"),
      this.api.get("models"),
      this.api.get("feedback?limit=1").catch(() => null),
      this.api.get("datasets").catch(() => []),
      this.api.get("train?limit=100&status=succeeded").catch(() => ({ jobs: [] })),
    ]);
    this.#sets = sets
      .filter(({ built_in: builtIn, status }) => !builtIn && status !== "failed")
      .map(({ name }) => name);
    this.#recipes = recipes.filter((recipe) => recipe.trainable);
    this.#models = models;
    this.#ended = jobs;
    this.#waiting = feedback?.enabled ? feedback.waiting : null;
    return models;
  }

  /** @param {Wire.ModelSummary[]} models */
  #build(models) {
    const names = this.#recipes.map(({ name }) => name);
    const recipe = select("recipe", "recipe", names);
    recipe.onchange = () => this.#chooseRecipe();
    const promote = select("promote", "promote", Object.keys(PROMOTE));
    for (const option of promote.options) option.text = PROMOTE[option.value] ?? option.value;
    fill(
      this.form,
      h("h2", { id: "run-title" }, "New run"),
      field("recipe", "Recipe", recipe, h("span", { id: "recipe-about" })),
      field("model", "Model", this.#modelInput(), "It gets a new version; a new name makes a new model."),
      h(
        "datalist",
        { id: "model-names" },
        models.map(({ name }) => h("option", { value: name })),
      ),
      h("div.fields", { id: "main-fields" }),
      h("details", { id: "more" }, h("summary", "More settings"), h("div.fields", { id: "more-fields" })),
      field("promote", "Serve it", promote, "Whether the new version answers from then on."),
      h("div", { id: "use-feedback" }),
      this.warning,
      this.said,
      h("p.actions", this.start, this.pace),
      this.command.host,
    );
    recipe.value = names.includes("softmax-mnist") ? "softmax-mnist" : (names[0] ?? "");
    this.#chooseRecipe();
  }

  #modelInput() {
    return h("input", {
      id: "model",
      name: "model",
      list: "model-names",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      pattern: "[a-z0-9][a-z0-9\\-]{0,63}",
      oninput: () => this.#offerFeedback(),
    });
  }

  /** @param {string} [model] */
  #chooseRecipe(model) {
    const recipe = this.#recipes.find(({ name }) => name === $("recipe", HTMLSelectElement).value);
    if (!recipe) return;
    $("recipe-about").textContent = sentences(recipe.summary, `Expect: ${recipe.reference}`);
    $("model", HTMLInputElement).value = model ?? recipe.name;
    const rows = recipe.fields.filter(({ name }) => !NOT_SETTINGS.includes(name));
    const main = MAIN.map((name) => rows.find((row) => row.name === name)).filter((row) => row !== undefined);
    fill($("main-fields"), main.map(setting));
    fill($("more-fields"), rows.filter((row) => !main.includes(row)).map(setting));
    this.#offerSets();
    this.#offerFeedback();
  }

  /**
   * The model or data set that a link names: a model as it was trained before, or on its corrections.
   * @param {Wish} wish
   */
  async #prefer({ model, dataset, feedback }) {
    const before = model ? await this.#trainedBy(model) : null;
    const set = dataset ?? subjectOf(before?.dataset?.name ?? null);
    const own = this.#sets.includes(set);
    const names = this.#recipes.map(({ name }) => name);
    const recipe = feedback ? FINE_TUNE : (before?.training?.recipe ?? (own ? OWN : ""));
    const again = recipe === FINE_TUNE && !feedback; // it goes on from a version; a new one begins anew
    const found = [again && own ? OWN : recipe, before?.training?.recipe].find(
      (name) => name && names.includes(name),
    );
    if (found) $("recipe", HTMLSelectElement).value = found;
    this.#chooseRecipe(model ?? (own ? set : undefined));
    const select = document.getElementById("set-dataset");
    const offered =
      select instanceof HTMLSelectElement && [...select.options].some(({ value }) => value === set);
    if (offered && found !== FINE_TUNE) select.value = set;
    const box = this.form.elements.namedItem("feedback");
    if (box instanceof HTMLInputElement) box.checked = feedback;
  }

  /**
   * The settings of a job, to start it again or to change some.
   * @param {string} id
   */
  async repeat(id) {
    if (!this.#recipes.length) return;
    try {
      /** @type {Wire.JobBody} */
      const { model, recipe, promote, config } = await this.api.get(`train/${encodeURIComponent(id)}`);
      $("recipe", HTMLSelectElement).value = recipe;
      this.#chooseRecipe(model);
      $("promote", HTMLSelectElement).value = promote;
      for (const control of this.#controls.filter(({ dataset }) => dataset.usual !== undefined))
        if (control.name in config) control.value = String(config[control.name] ?? "");
      this.#changed();
    } catch (error) {
      this.said.textContent = told(error);
    }
  }

  /**
   * The card of a model, which says how it was trained.
   * @param {string} model
   * @returns {Promise<Wire.Card | null>}
   */
  async #trainedBy(model) {
    return await this.api.get(`models/${encodeURIComponent(model)}`).catch(() => null); // one like any other then
  }

  /** Data sets that people brought are choices like those that a recipe names. */
  #offerSets() {
    const select = document.getElementById("set-dataset");
    if (!(select instanceof HTMLSelectElement)) return;
    const there = [...select.options].map(({ value }) => value);
    select.append(
      ...this.#sets.filter((name) => !there.includes(name)).map((name) => h("option", { value: name }, name)),
    );
  }

  #offerFeedback() {
    const host = $("use-feedback");
    const number = this.#waiting?.[$("model", HTMLInputElement).value] ?? 0;
    const before = this.form.elements.namedItem("feedback");
    host.hidden = !number;
    host.replaceChildren();
    if (!number) return;
    const box = h("input", { type: "checkbox", id: "feedback", name: "feedback" });
    box.checked = before instanceof HTMLInputElement ? before.checked : true;
    host.append(h("label.check", box, ` Train on ${plural(number, "correction")} too`));
  }

  /** @returns {Control[]} */
  get #controls() {
    return [...this.form.querySelectorAll(/** @type {"input"} */ (".field input, .field select"))];
  }

  async #submit() {
    this.said.textContent = "";
    if (!allValid(this.#controls) || !this.#isAccepted()) return;
    this.start.disabled = true;
    try {
      /** @type {Wire.JobBody} */
      const job = await this.#send(this.#body());
      location.hash = `#/train/${job.id}`;
    } catch (error) {
      this.said.textContent = markWrong(this.#controls, error);
    } finally {
      this.start.disabled = false;
    }
  }

  /** Whether no warning is there, or it has been read: the button was pressed before. */
  #isAccepted() {
    const text = this.warning.textContent ?? "";
    if (text === this.#accepted) return true;
    this.#accepted = text;
    this.start.textContent = "Start all the same";
    this.warning.focus();
    return false;
  }

  #changed() {
    if (!this.#recipes.length) return;
    const { recipe, model, promote } = this.#body();
    const found = this.#models.find(({ name }) => name === model);
    const set = document.getElementById("set-dataset");
    const dataset = set instanceof HTMLSelectElement && recipe !== FINE_TUNE ? set.value : null;
    const text = mismatch(found, dataset, promote);
    if (text !== this.warning.textContent) {
      this.warning.textContent = text;
      this.#accepted = "";
      this.start.textContent = "Start training";
      this.start.classList.toggle("strong", !text);
    }
    const epochs = document.getElementById("set-epochs");
    const number = epochs instanceof HTMLInputElement ? Number(epochs.value) || null : null;
    this.pace.textContent = foretold(this.#ended, { recipe, dataset, epochs: number });
    this.#showCommand();
  }

  /** What would be sent now. */
  #showCommand() {
    this.command.write("train", { wanted: this.#body() });
  }

  #body() {
    const value = (/** @type {string} */ id) => /** @type {Control} */ ($(id)).value.trim();
    const changed = this.#controls.filter(
      ({ value: now, dataset }) => dataset.usual !== undefined && now !== dataset.usual,
    );
    const box = this.form.elements.namedItem("feedback");
    return {
      recipe: value("recipe"),
      model: value("model"),
      promote: value("promote"),
      ...Object.fromEntries(changed.map((control) => [control.name, valueOf(control)])),
      ...(box instanceof HTMLInputElement && box.checked && { feedback: true }),
    };
  }

  /**
   * Sent until the service has it: the key makes one job of it, however often it arrives.
   * @param {object} body
   * @returns {Promise<Wire.JobBody>}
   */
  async #send(body) {
    const headers = { "idempotency-key": randomKey() };
    for (;;) {
      try {
        return await this.api.change("POST", "train", body, headers);
      } catch (error) {
        if (!(error instanceof Away)) throw error;
        this.said.textContent = "The service cannot be reached. This run is sent as soon as it is back.";
        await this.api.back();
        this.said.textContent = "";
      }
    }
  }
}

/** 128 random bits; `crypto.randomUUID` is missing where the page came by plain http. */
export function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

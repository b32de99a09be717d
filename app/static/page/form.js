// What to train: a recipe, and what differs from it.

import { Away, Problem } from "./api.js";
import { $, fill, h, loading, note, trouble } from "./dom.js";
import { field, invalid, select, setting, valueOf } from "./setting.js";
import { plural, sentences } from "./text.js";
import { words, wrong } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Control } from "./setting.js" */
/** @typedef {{ model: string, feedback: boolean }} Wish what a link asks for */

const MAIN = ["epochs", "lr", "batch_size", "optimizer", "schedule", "augment"]; // the rest is behind "More settings"
const NOT_SETTINGS = ["model", "recipe", "promote", "feedback"];
/** @type {Record<string, string>} */
const PROMOTE = { if_better: "if it is not worse", always: "always", never: "never" };

export class RunForm {
  /** @type {Wire.RecipeBody[]} */
  #recipes = [];
  /** @type {Record<string, number> | null} */
  #waiting = null; // corrections by model; null: the service keeps none

  /**
   * @param {Api} api
   * @param {HTMLFormElement} form
   */
  constructor(api, form) {
    this.api = api;
    this.form = form;
    this.said = h("p.problem", { id: "run-problem", role: "alert" });
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
    if (wish) await this.#prefer(wish);
    this.#offerFeedback();
  }

  async #read() {
    /** @type {[Wire.RecipeBody[], Wire.ModelSummary[], Wire.FeedbackBody | null]} */
    const [recipes, models, feedback] = await Promise.all([
      this.api.get("recipes"),
      this.api.get("models"),
      this.api.get("feedback?limit=1").catch(() => null),
    ]);
    this.#recipes = recipes.filter((recipe) => recipe.trainable);
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
      this.said,
      h("p.actions", h("button.strong", { type: "submit" }, "Start training")),
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
    this.#offerFeedback();
  }

  /**
   * The model that a link names, trained as it was trained before.
   * @param {Wish} wish
   */
  async #prefer({ model, feedback }) {
    const recipe = feedback ? "fine-tune" : await this.#recipeOf(model);
    if (recipe) $("recipe", HTMLSelectElement).value = recipe;
    this.#chooseRecipe(model);
    const box = this.form.elements.namedItem("feedback");
    if (box instanceof HTMLInputElement) box.checked = feedback;
  }

  /** @param {string} model */
  async #recipeOf(model) {
    try {
      /** @type {Wire.Card} */
      const card = await this.api.get(`models/${encodeURIComponent(model)}`);
      return this.#recipes.find(({ name }) => name === card.training?.recipe)?.name;
    } catch {
      return undefined; // a model without a card trains like any other
    }
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
    for (const control of this.#controls) mark(control, "");
    const bad = this.#controls.filter((control) => invalid(control));
    for (const control of bad) mark(control, invalid(control));
    bad[0]?.focus();
    if (bad.length) return;
    const button = this.form.querySelector("button");
    if (button) button.disabled = true;
    try {
      /** @type {Wire.JobBody} */
      const job = await this.#send(this.#body());
      location.hash = `#/train/${job.id}`;
    } catch (error) {
      this.#showWrong(error);
    } finally {
      if (button) button.disabled = false;
    }
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

  /**
   * Each field says what is wrong with it; what belongs to none stands above the button.
   * @param {unknown} error
   */
  #showWrong(error) {
    const problems = error instanceof Problem ? error.errors : [];
    const left = problems.filter(({ field: path, problem }) => {
      const name = path.split(".").at(-1);
      const control = this.#controls.find((each) => each.name === name);
      if (control) mark(control, wrong(problem));
      return !control;
    });
    this.#controls.find((control) => control.ariaInvalid)?.focus();
    if (problems.length && !left.length) return;
    const { title, text } = words(error);
    const others = left.map(({ field: path, problem }) => `${path.split(".").at(-1)}: ${wrong(problem)}`);
    this.said.textContent = others.length ? others.join(" ") : `${sentences(title)} ${text}`;
  }
}

/**
 * @param {Control} control
 * @param {string} problem "": none
 */
function mark(control, problem) {
  control.ariaInvalid = problem ? "true" : null;
  $(`${control.id}-wrong`).textContent = problem;
  if (problem) control.closest("details")?.setAttribute("open", "");
}

/** 128 random bits; `crypto.randomUUID` is missing where the page came by plain http. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

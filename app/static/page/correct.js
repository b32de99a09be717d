// Correct a model: the right label for a picture, and the corrections that are kept.

import { act, fill, h } from "./dom.js";
import { save } from "./files.js";
import { nameOf } from "./folder.js";
import { pageOfData } from "./paths.js";
import { LabelQueue } from "./queue.js";
import { bytes, cells, count, plural, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const MANY = 20; // labels, of which each has a button

export class Corrections {
  /** @type {Wire.PredictionBody[]} */
  #results = [];
  #opened = false;
  /** @type {Record<string, number>} */
  #waiting = {}; // corrections by model

  /**
   * @param {Api} api
   * @param {HTMLElement} box below the answers
   * @param {HTMLElement} list below the view
   */
  constructor(api, box, list) {
    this.api = api;
    this.box = box;
    this.list = list;
    this.done = h("p.done", { role: "status" });
    this.said = h("p.problem", { role: "alert" });
    this.queue = new LabelQueue(api, async () => {
      await this.refresh();
      this.list.querySelector("button")?.focus();
    });
  }

  hide() {
    this.box.hidden = true;
  }

  /**
   * Asks for the right label, where the service remembers its answers.
   * @param {Wire.PredictionBody[]} results
   * @param {string[]} classes
   */
  offer(results, classes) {
    if (!results.every((result) => result.id)) {
      this.hide();
      return;
    }
    this.#results = results;
    this.done.replaceChildren();
    const say = (/** @type {string} */ text) => fill(this.done, text);
    const one = (/** @type {string} */ label) => act(label, () => this.#correct(label), { say });
    const labels = classes.length > MANY ? this.#choice(classes, say) : classes.map(one);
    fill(
      this.box,
      h("h2.minor", { id: "correct-title" }, "Wrong? It was a …"),
      h("div.labels", { role: "group", "aria-labelledby": "correct-title" }, labels),
      h("p.fine", "The service then keeps what you sent, to train on."),
      this.done,
    );
    this.box.hidden = false;
  }

  /**
   * @param {string[]} classes too many for buttons
   * @param {(text: string) => void} say
   */
  #choice(classes, say) {
    const options = classes.map((label) => h("option", { value: label }, label));
    const select = h("select", { "aria-labelledby": "correct-title" }, options);
    return [select, act("Correct it", () => this.#correct(select.value), { say })];
  }

  /** @param {string} label */
  async #correct(label) {
    const wrong = this.#results.filter((result) => result.label !== label);
    const [first] = wrong;
    if (!first) {
      fill(this.done, this.#results.length > 1 ? "That is what they say." : "That is what it says.");
      return;
    }
    for (const { id } of wrong) await this.api.change("POST", "feedback", { prediction: id, label });
    const state = await this.refresh();
    const waiting = state?.waiting[first.model] ?? wrong.length;
    const names = wrong.map(({ model }) => model).join(" and ");
    fill(
      this.done,
      `Thank you: kept as ${label} for ${names}. `,
      `${plural(waiting, "correction")} ${waiting === 1 ? "waits" : "wait"} for ${first.model}. `,
      h("a", { href: `#/train?model=${encodeURIComponent(first.model)}&feedback=true` }, "Train on them"),
    );
  }

  /** What is kept; pictures only with a key, since people drew them. */
  async refresh() {
    /** @type {Wire.FeedbackBody} */
    let state;
    try {
      state = await this.api.get("feedback?limit=60");
    } catch {
      this.list.replaceChildren(); // a service that keeps none
      return null;
    }
    if (state.enabled || state.count) this.#show(state);
    else this.list.replaceChildren();
    return state;
  }

  /** @param {Wire.FeedbackBody} state */
  #show(state) {
    this.said.textContent = "";
    this.#waiting = state.waiting;
    fill(
      this.list,
      h(
        "section.kept",
        { "aria-labelledby": "kept-title" },
        h("h2.minor", { id: "kept-title" }, "Corrections"),
        state.count
          ? h("p", summary(state))
          : h("p.fine", "None yet. Draw something that a model gets wrong, and correct it."),
        h("p.actions", state.enabled && this.#unsureButton(), state.count > 0 && this.#actions()),
        this.said,
        this.queue.element,
        this.#opened && state.count > 0 && this.#items(state.items),
      ),
    );
  }

  /** What people asked about of late, the least sure first. */
  #unsureButton() {
    const say = (/** @type {string} */ text) => fill(this.said, text);
    const open = async () => {
      if (!this.api.key && !(await this.api.needKey())) return;
      /** @type {Wire.UnsureBody[]} */
      const found = await this.api.get("feedback/unsure?limit=100");
      if (found.length) await this.queue.open(found.map((item) => ({ ...item, label: null })));
      else say("In the last hour no picture was asked about that is not corrected.");
    };
    return act("Label unsure pictures", open, { say });
  }

  #actions() {
    const say = (/** @type {string} */ text) => fill(this.said, text);
    const open = async () => {
      if (!this.api.key && !(await this.api.needKey())) return;
      this.#opened = true;
      await this.refresh();
    };
    const remove = async () => {
      await this.api.change("DELETE", "feedback");
      await this.refresh();
    };
    return [
      !this.#opened && act("Show them", open, { say }),
      act("Export", () => save(this.api, "feedback/export", "feedback.zip"), { say }),
      ...Object.keys(this.#waiting).map((model) =>
        act(`Data set of ${model}'s`, () => this.#makeSet(model), { say }),
      ),
      act("Delete all", remove, { say, sure: true }),
    ];
  }

  /**
   * The corrections of a model as a data set: to look at, relabel, export.
   * @param {string} model
   */
  async #makeSet(model) {
    const search = new URLSearchParams({ name: nameOf(`${model}-corrections`), from_corrections: model });
    /** @type {Wire.DatasetBody} */
    const made = await this.api.change("POST", `datasets?${search}`);
    location.hash = pageOfData(made.name, made.version);
  }

  /** @param {Wire.CorrectionBody[]} items */
  #items(items) {
    return h(
      "ul.gallery",
      { role: "list" },
      items.map((item, index) => this.#item(item, () => this.queue.open(items, index))),
    );
  }

  /**
   * @param {Wire.CorrectionBody} item
   * @param {() => Promise<void>} relabel
   */
  #item({ id, label, predicted, model, version, created, image, row, used_by: used }, relabel) {
    const say = (/** @type {string} */ text) => fill(this.said, text);
    const remove = async () => {
      await this.api.change("DELETE", `feedback/${encodeURIComponent(id)}`);
      await this.refresh();
    };
    return h(
      "li",
      image && h("img.pixels", { src: image, alt: `${label}, taken for ${predicted}`, width: 28, height: 28 }),
      row && h("p.fine", cells(row)),
      h("p", h("b", label), label === predicted ? " as predicted" : ` not ${predicted}`),
      h("p.fine", `${model} ${version}, ${when(created)}${used ? ", trained on" : ""}`),
      named(act("Relabel", relabel, { say, kind: "quiet" }), `Relabel ${label}, taken for ${predicted}`),
      act("Delete", remove, { say, kind: "quiet" }),
    );
  }
}

/**
 * @param {HTMLElement} button
 * @param {string} name what a screen reader says
 */
function named(button, name) {
  button.ariaLabel = name;
  return button;
}

/** @param {Wire.FeedbackBody} state */
function summary({ count: number, bytes: size, limit, waiting }) {
  const names = Object.entries(waiting).filter(([, each]) => each);
  const kept = `${plural(number, "correction")} kept (${bytes(size)} of ${bytes(limit.bytes)}, ${count(limit.count)} at most). `;
  if (!names.length) return `${kept}All of them were trained on.`;
  return `${kept}Not trained on yet: ${names.map(([name, each]) => `${name} ${count(each)}`).join(", ")}.`;
}

// One picture after the other gets its right label, by a key or a button.

import { act, fill, h } from "./dom.js";
import { modelPath } from "./paths.js";
import { cells, percent, plural } from "./text.js";
import { told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/**
 * @typedef {object} Item a prediction
 * @property {string} id
 * @property {string} model
 * @property {number} version
 * @property {string} predicted
 * @property {string | null} label that it was corrected to
 * @property {string | null} image
 * @property {Record<string, unknown> | null} [row]
 * @property {number} [probability]
 * @property {boolean} [unfamiliar]
 */

const MANY = 20; // labels, of which each has a button

export class LabelQueue {
  /** @type {Item[]} */
  #items = [];
  #at = 0;
  /** @type {{ at: number, before: string | null }[]} */
  #done = [];
  #busy = false;
  /** @type {Map<string, Promise<string[]>>} */
  #known = new Map(); // classes by version
  /** @type {string[]} */
  #classes = []; // of the present picture
  #problem = h("p.problem", { role: "alert" });
  #said = h("p.done", { role: "status" });
  #body = h("div.stack");

  /**
   * @param {Api} api
   * @param {() => Promise<unknown>} ended
   */
  constructor(api, ended) {
    this.api = api;
    this.ended = ended;
    this.element = h(
      "div.queue",
      {
        role: "group",
        tabindex: "0",
        "aria-labelledby": "queue-title",
        "aria-describedby": "queue-keys",
        hidden: true,
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      },
      h("h3.minor", { id: "queue-title" }, "Label by keys"),
      h(
        "p.fine",
        { id: "queue-keys" },
        ...["0", "–", "9", " label, ", "→", " skip, ", "←", " undo, ", "Esc", " end"].map((text, index) =>
          index % 2 || text === "–" ? text : h("kbd", text),
        ),
      ),
      this.#said,
      this.#problem,
      this.#body,
    );
  }

  /**
   * @param {Item[]} items
   * @param {number} at the first of them
   */
  async open(items, at = 0) {
    this.#items = items;
    this.#at = at;
    this.#done = [];
    this.element.hidden = false;
    await this.#show("");
    this.element.focus();
  }

  async close() {
    this.element.hidden = true;
    await this.ended();
  }

  /** @param {Item} item */
  async #classesOf({ model, version, label, predicted }) {
    const ref = `${model}@${version}`;
    const ask = async () => {
      /** @type {Wire.Card} */
      const card = await this.api.get(modelPath(ref)).catch(() => this.api.get(modelPath(model)));
      return card.classes;
    };
    const known = this.#known.get(ref) ?? ask().catch(() => [...new Set([predicted, label ?? predicted])]);
    this.#known.set(ref, known);
    return known;
  }

  /** @param {string} said of what was done just now */
  async #show(said) {
    this.#problem.textContent = "";
    const item = this.#items[this.#at];
    if (!item) {
      const text = `${said} That was all: ${plural(this.#done.length, "label")} given.`;
      fill(this.#said, text.trim());
      fill(this.#body, h("p.actions", this.#undoButton(), this.#endButton()));
      return;
    }
    this.#classes = await this.#classesOf(item);
    const { model, version, predicted, probability, unfamiliar, label, image, row } = item;
    const sure = probability === undefined ? "" : `, ${percent(probability, 1)}`;
    const known = label ? `. It is kept as ${label}` : "";
    const unlike = unfamiliar ? ": unlike what it has learned" : "";
    const place = `Picture ${this.#at + 1} of ${this.#items.length}`;
    fill(this.#said, `${said} ${place}: ${model} ${version} says ${predicted}${sure}${unlike}${known}.`.trim());
    fill(
      this.#body,
      image && h("img.pixels", { src: image, alt: `Taken for ${predicted}`, width: 28, height: 28 }),
      row && h("p.fine", cells(row)),
      h("div.labels", { role: "group", "aria-label": "The right label" }, this.#buttons()),
      h(
        "p.actions",
        this.#button("Skip", () => this.#skip()),
        this.#undoButton(),
        this.#endButton(),
      ),
    );
  }

  #buttons() {
    if (this.#classes.length > MANY) {
      const options = this.#classes.map((label) => h("option", { value: label }, label));
      const select = h("select", { "aria-label": "The right label" }, options);
      return [select, this.#button("Label it", () => this.#choose(select.value))];
    }
    return this.#classes.map((label, index) => {
      const key = keyOf(this.#classes, index);
      const button = this.#button(label, () => this.#choose(label));
      if (key && key !== label) button.append(" ", h("kbd", key));
      if (key) button.setAttribute("aria-keyshortcuts", key);
      return button;
    });
  }

  #undoButton() {
    const button = this.#button("Undo", () => this.#undo());
    button.disabled = !this.#done.length;
    return button;
  }

  #endButton() {
    return this.#button("End", () => this.close());
  }

  /**
   * The buttons go with their picture: what had the focus is then the queue.
   * @param {string} label
   * @param {() => Promise<unknown>} action
   */
  #button(label, action) {
    return act(
      label,
      async () => {
        await action();
        if (!this.element.hidden) this.element.focus();
      },
      { say: (text) => fill(this.#problem, text) },
    );
  }

  /** @param {KeyboardEvent} event */
  async #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLSelectElement) return;
    const { key } = event;
    const index = this.#classes.findIndex((_, each) => keyOf(this.#classes, each) === key);
    const label = this.#classes[index];
    const action =
      label !== undefined && this.#items[this.#at]
        ? () => this.#choose(label)
        : { ArrowRight: () => this.#skip(), ArrowLeft: () => this.#undo(), Escape: () => this.close() }[key];
    if (!action) return;
    event.preventDefault();
    try {
      await action();
      if (!this.element.hidden) this.element.focus();
    } catch (error) {
      fill(this.#problem, told(error));
    }
  }

  /** @param {string} label */
  async #choose(label) {
    const item = this.#items[this.#at];
    if (!item || this.#busy) return;
    await this.#once(async () => {
      await this.api.change("POST", "feedback", { prediction: item.id, label });
      this.#done.push({ at: this.#at, before: item.label });
      item.label = label;
      this.#at += 1;
      await this.#show(`Kept as ${label}.`);
    });
  }

  async #skip() {
    if (this.#busy || !this.#items[this.#at]) return;
    this.#at += 1;
    await this.#show("Skipped.");
  }

  /** The last label is taken back, and its picture shown again. */
  async #undo() {
    const last = this.#done.at(-1);
    const item = last && this.#items[last.at];
    if (!item || this.#busy) return;
    await this.#once(async () => {
      const { id } = item;
      if (last.before) await this.api.change("POST", "feedback", { prediction: id, label: last.before });
      else await this.api.change("DELETE", `feedback/${encodeURIComponent(id)}?forget=false`);
      this.#done.pop();
      item.label = last.before;
      this.#at = last.at;
      await this.#show("Undone.");
    });
  }

  /** @param {() => Promise<void>} action one at a time, however fast keys are pressed */
  async #once(action) {
    this.#busy = true;
    try {
      await action();
    } finally {
      this.#busy = false;
    }
  }
}

/**
 * The key of a class: its label where all of the first ten are digits, else its place.
 * @param {string[]} classes
 * @param {number} index
 */
function keyOf(classes, index) {
  if (index > 9) return null;
  const digits = classes.slice(0, 10).every((label) => /^\d$/.test(label));
  return digits ? (classes[index] ?? null) : String(index);
}

// Which models answer: by subject (digits, garments), and by the address of the page, which can be shared.

import { Problem } from "./api.js";
import { subjectOf } from "./subjects.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Asked } from "./answer.js" */

export class Choice {
  /** @type {Wire.ModelSummary[]} */
  #served = [];
  /** @type {Map<string, Asked>} */
  #pinned = new Map(); // versions that the address has named
  /** @type {Map<string, Set<string>>} */
  #chosen = new Map(); // subject -> refs
  #made = false; // by the user or the address
  subject = "";

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
  }

  get loaded() {
    return this.#served.length > 0;
  }

  get subjects() {
    return [...new Set([...this.#served, ...this.#pinned.values()].map(({ dataset }) => subjectOf(dataset)))];
  }

  /**
   * Models of the subject, the most accurate first.
   * @returns {Asked[]}
   */
  get models() {
    const served = this.#served.map((model) => ({ ...model, ref: model.name }));
    return [...served, ...this.#pinned.values()]
      .filter((model) => subjectOf(model.dataset) === this.subject)
      .sort((a, b) => (b.accuracy ?? 0) - (a.accuracy ?? 0));
  }

  /** The models that answer; the most accurate where none was chosen. */
  get chosen() {
    const refs = this.#chosen.get(this.subject);
    const found = this.models.filter(({ ref }) => refs?.has(ref));
    return found.length ? found : this.models.slice(0, 1);
  }

  /**
   * Reads what is served, and what the address names; the names that nothing has.
   * @param {string[]} refs
   */
  async load(refs) {
    this.#served = await this.api.get("models");
    const found = await Promise.all(refs.map((ref) => this.#find(ref)));
    const models = found.filter((model) => model !== null);
    this.#adopt(models);
    if (!this.subjects.includes(this.subject)) {
      const first = this.#served.find((model) => model.default) ?? this.#served[0];
      this.subject = first ? subjectOf(first.dataset) : "";
    }
    return refs.filter((_, index) => !found[index]);
  }

  /** @param {string} subject */
  turnTo(subject) {
    this.subject = subject;
    this.#keep(new Set(this.chosen.map((model) => model.ref)));
  }

  /**
   * One model more or less; at least one stays.
   * @param {string} ref
   * @param {boolean} on
   */
  set(ref, on) {
    const refs = new Set(this.chosen.map((model) => model.ref));
    if (on) refs.add(ref);
    else if (refs.size > 1) refs.delete(ref);
    this.#keep(refs);
  }

  /** The address that brings this choice back. */
  get address() {
    if (!this.#made) return "#/try";
    return `#/try?model=${this.chosen.map(({ ref }) => encodeURIComponent(ref).replace("%40", "@")).join(",")}`;
  }

  /** @param {Set<string>} refs */
  #keep(refs) {
    this.#chosen.set(this.subject, refs);
    this.#made = true;
  }

  /** @param {Asked[]} models the first of them decides about the subject */
  #adopt(models) {
    const [first] = models;
    if (!first) return;
    this.subject = subjectOf(first.dataset);
    this.#keep(
      new Set(models.filter((model) => subjectOf(model.dataset) === this.subject).map(({ ref }) => ref)),
    );
  }

  /**
   * @param {string} ref name, name@version or name@alias
   * @returns {Promise<Asked | null>}
   */
  async #find(ref) {
    const served = this.#served.find(({ name }) => name === ref);
    if (served) return { ...served, ref };
    try {
      this.#pinned.set(ref, await this.#pin(ref));
      return this.#pinned.get(ref) ?? null;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  }

  /**
   * @param {string} ref
   * @returns {Promise<Asked>}
   */
  async #pin(ref) {
    /** @type {Wire.Card} */
    const card = await this.api.get(`models/${encodeURIComponent(ref)}`);
    const version = Number(ref.split("@")[1]) || null;
    const accuracy = card.metrics.test?.accuracy ?? null;
    const input = card.input.kind ?? "picture";
    return { ref, version, classes: card.classes, dataset: card.dataset?.name ?? null, accuracy, input };
  }
}

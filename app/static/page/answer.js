// What one model says of the picture or the row: label, bars, time, what it saw and what counted.

import { Away, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { count, duration, percent, sentences } from "./text.js";
import { words } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @typedef {{ number: number, blob: Blob, name: string }} Picture numbered, the newest highest */
/** @typedef {{ name: string, row: HTMLElement, bar: HTMLElement, value: HTMLElement }} Bar */
/**
 * @typedef {object} Asked a model that can be asked
 * @property {string} ref its name, or name@version
 * @property {number | null} version where it is known before the first answer
 * @property {string[]} classes
 * @property {string | null} dataset
 * @property {number | null} accuracy
 * @property {"picture" | "table"} input
 */

const MANY = 10; // classes, of which all are shown
const FEW = 8; // of more, those with the highest probabilities
const COUNTED = 8; // columns of a row, those that count most
const SLOW = 300; // ms; then the answer says that it is worked on

export class Answer {
  /** @type {Picture | null} */
  #live = null; // to ask about next
  /** @type {Picture | null} */
  #full = null; // to have explained after that
  /** @type {Promise<void> | null} */
  #running = null;
  /** @type {AbortController | null} */
  #abort = null;
  #floor = 0; // answers to older pictures are not shown any more
  #latest = 0; // the picture to have explained, by number
  #took = ""; // by the last answer
  /** @type {(Wire.PredictionBody & { number: number }) | null} */
  result = null;

  /**
   * @param {Api} api
   * @param {Asked} model
   */
  constructor(api, model) {
    this.api = api;
    this.model = model;
    this.label = h("strong.label", "–");
    this.sure = h("span.sure");
    this.time = h("span.time");
    this.version = h("span.version", model.version ? `version ${model.version}` : "");
    this.problem = h("p.problem");
    this.bars = model.classes.map(newBar);
    this.list = h("ul.bars", { role: "list" });
    this.others = h("p.fine.others");
    this.seen = h("img", { alt: "What the model saw", width: 28, height: 28 });
    this.overlay = h("img.overlay", {
      alt: "What counted: orange spoke for the answer, blue against it",
      width: 28,
      height: 28,
    });
    this.counted = h("ul", { role: "list" });
    this.insight =
      model.input === "table"
        ? h("div.insight.counted", h("h3.minor", "What counted"), this.counted)
        : h(
            "div.insight",
            h("figure", this.seen, h("figcaption", "What it saw")),
            h("figure", this.overlay, h("figcaption", "What counted")),
            h("p.sides", h("i.for"), "for ", h("i.against"), "against"),
          );
    this.element = this.#card();
    this.reset(0);
  }

  #card() {
    const { ref, classes } = this.model;
    const name = ref.split("@")[0];
    return h(
      "article.answer",
      {
        "data-model": ref,
        "data-words": classes.some((label) => label.length > 3),
        "aria-label": `Answer of ${ref}`,
      },
      h("header", h("h2", name), this.version, this.time),
      h(
        "div.answer-body",
        h("p.verdict", this.label, this.sure),
        this.problem,
        this.list,
        this.others,
        this.insight,
      ),
    );
  }

  path(explain = false) {
    const how = this.model.input === "table" ? "" : "&preprocess=auto";
    return `predict?model=${encodeURIComponent(this.model.ref)}${how}${explain ? "&explain=true" : ""}`;
  }

  /**
   * One request at a time; of pictures that come meanwhile the last one is asked about.
   * @param {Picture} picture
   */
  ask(picture, explain = false) {
    if (explain) {
      this.#full = picture;
      this.#latest = picture.number;
    } else if (picture.number > this.#latest) {
      [this.#live, this.#full] = [picture, null];
      this.#abort?.abort(); // an explanation must not keep the bars waiting
    } // else the browser was so long about encoding it that its explanation is on the way
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #run() {
    while (this.#live || this.#full) {
      try {
        await this.api.turn();
      } catch (error) {
        this.#live = this.#full = null;
        this.#fail(error);
        return;
      }
      const explain = !this.#live;
      const picture = this.#live ?? this.#full;
      if (explain) this.#full = null;
      else this.#live = null;
      if (picture) await this.#answer(picture, explain);
    }
  }

  /**
   * Nothing to answer; what comes of pictures before `number` is dropped.
   * @param {number} number
   */
  reset(number) {
    this.#floor = number;
    this.#live = this.#full = null;
    this.#empty("–");
    this.problem.textContent = "";
  }

  /**
   * @param {Picture} picture
   * @param {boolean} explain
   */
  async #answer(picture, explain) {
    const abort = explain ? (this.#abort = new AbortController()) : null;
    const slow = setTimeout(() => this.#busy(true), SLOW);
    const begun = performance.now();
    try {
      const response = await this.api.request(this.path(explain), {
        method: "POST",
        headers: { "content-type": picture.blob.type },
        body: picture.blob,
        ...(abort && { signal: abort.signal }),
      });
      /** @type {Wire.PredictionBody} */
      const result = await response.json();
      if (picture.number < this.#floor) return;
      this.result = { ...result, number: picture.number };
      this.#show(result, explain ? null : performance.now() - begun);
    } catch (error) {
      if (abort?.signal.aborted || picture.number < this.#floor) return;
      if (error instanceof Problem && error.retryAfter !== null) this.#putBack(picture, explain);
      this.#fail(error);
    } finally {
      clearTimeout(slow);
      this.#busy(false);
      this.#abort = null;
    }
    this.element.dataset.number = String(picture.number);
  }

  /**
   * The service wants to be asked later: again about this picture, where none has come since.
   * @param {Picture} picture
   * @param {boolean} explain
   */
  #putBack(picture, explain) {
    if (explain) this.#full ??= picture;
    else this.#live ??= picture;
  }

  /** @param {boolean} busy */
  #busy(busy) {
    this.element.ariaBusy = String(busy);
    this.time.textContent = busy ? "working …" : this.#took;
  }

  /**
   * @param {Wire.PredictionBody} result
   * @param {number | null} milliseconds
   */
  #show(result, milliseconds) {
    this.element.classList.remove("waiting");
    this.problem.textContent = "";
    const doubted = isDoubted(result);
    this.element.classList.toggle("doubted", doubted);
    this.label.textContent = doubted ? `${result.label}?` : result.label;
    this.sure.textContent = doubted ? "unlike what it has learned" : percent(result.probability, 1);
    this.sure.title = doubted ? (result.warning?.detail ?? "") : "";
    this.version.textContent = `version ${result.version}`;
    if (milliseconds !== null) this.#took = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    for (const bar of this.bars) {
      const share = result.probabilities[bar.name] ?? 0;
      setBar(bar, share, share > 0 && share < 0.001 ? "< 0.1 %" : percent(share, 1));
      bar.row.classList.toggle("best", bar.name === result.label);
    }
    this.#sort(result.probabilities);
    if (result.seen && result.overlay) {
      this.seen.src = result.seen;
      this.overlay.src = result.overlay;
      this.insight.dataset.state = "new";
    } else if (result.contributions) {
      fill(this.counted, counted(result.contributions));
      this.insight.dataset.state = "new";
    } else if (this.insight.dataset.state === "new") this.insight.dataset.state = "old";
  }

  /**
   * Of many classes only the most probable are shown.
   * @param {Record<string, number>} probabilities
   */
  #sort(probabilities) {
    const many = this.bars.length > MANY;
    const share = (/** @type {Bar} */ { name }) => probabilities[name] ?? 0;
    const bars = many ? this.bars.toSorted((a, b) => share(b) - share(a)).slice(0, FEW) : this.bars;
    if (many || !this.list.childElementCount)
      fill(
        this.list,
        bars.map(({ row }) => row),
      );
    const left = 1 - bars.reduce((sum, bar) => sum + share(bar), 0);
    const rest = `${count(this.bars.length - bars.length)} other classes`;
    this.others.textContent = many ? `${rest}${this.result ? `: ${percent(Math.max(0, left), 1)}` : ""}` : "";
  }

  /** @param {unknown} error */
  #fail(error) {
    if (error instanceof Away) return; // the banner says so; what was answered stays
    this.#empty("?");
    const { title, text } = words(error);
    const again = this.#live || this.#full ? error instanceof Problem && error.retryAfter : null;
    this.problem.textContent = sentences(title, again ? `Asked again in ${duration(again)}` : text);
  }

  /** @param {string} label */
  #empty(label) {
    this.result = null;
    this.#took = "";
    this.element.classList.add("waiting");
    this.element.classList.remove("doubted");
    this.label.textContent = label;
    this.sure.textContent = this.time.textContent = "";
    this.insight.dataset.state = "none";
    for (const bar of this.bars) setBar(bar, 0, "–");
    this.#sort({});
  }
}

/**
 * Whether the model was asked about something that is like nothing it has learned.
 * @param {Wire.PredictionBody} result
 */
export const isDoubted = (result) => result.warning?.type === "unfamiliar";

/**
 * The columns that moved the answer most: towards it, or away from it.
 * @param {Record<string, number>} contributions
 */
function counted(contributions) {
  const all = Object.entries(contributions).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const most = Math.max(Math.abs(all[0]?.[1] ?? 0), 1e-9);
  return all.slice(0, COUNTED).map(([name, effect]) => {
    const bar = h("i");
    bar.style.transform = `scaleX(${Math.abs(effect) / most})`;
    const sign = effect < 0 ? "-" : "+";
    return h(
      "li",
      { "data-sign": sign },
      h("span.column", { title: name }, name),
      h("span.track", { "aria-hidden": "true" }, bar),
      h("span.effect", `${sign === "-" ? "−" : "+"}${Math.abs(effect).toFixed(2)}`),
    );
  });
}

/**
 * @param {string} name
 * @returns {Bar}
 */
function newBar(name) {
  const bar = h("i");
  const value = h("span.share", "–");
  const row = h(
    "li",
    h("span.class", { title: name }, name),
    h("span.track", { "aria-hidden": "true" }, bar),
    value,
  );
  return { name, row, bar, value };
}

/**
 * @param {Bar} bar
 * @param {number} share 0..1
 * @param {string} text
 */
function setBar({ row, bar, value }, share, text) {
  bar.style.transform = `scaleX(${share})`;
  value.textContent = text;
  if (!share) row.classList.remove("best");
}

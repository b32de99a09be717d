// Pictures to try: those that come with the page, or some of the data set that a model was trained on.

import { Problem } from "./api.js";
import { blobOf } from "./carry.js";
import { fill, h } from "./dom.js";
import { dataPath } from "./paths.js";
import { subjectNamed } from "./subjects.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @typedef {(picture: Blob, name: string) => Promise<void>} Place */

const SOME = 20;

export class Samples {
  #of = ""; // what is shown
  #asked = 0;

  /**
   * @param {Api} api
   * @param {HTMLElement} title
   * @param {HTMLElement} host
   * @param {Place} place shows a picture on the pad
   */
  constructor(api, title, host, place) {
    this.api = api;
    this.title = title;
    this.host = host;
    this.place = place;
    api.addEventListener("key", () => {
      if (!subjectNamed(this.#of).drawn) this.#own(this.#of);
    });
  }

  /** @param {string | null} dataset as the card names it */
  show(dataset) {
    const of = dataset ?? "";
    if (of === this.#of && this.host.childElementCount) return;
    this.#of = of;
    this.#asked += 1;
    const { samples, drawn } = subjectNamed(of);
    if (drawn) this.#fill(samples.map(([label, file]) => this.#shipped(label, file)));
    else this.#own(of);
  }

  /** @param {HTMLElement[]} buttons */
  #fill(buttons) {
    this.title.hidden = buttons.length === 0;
    fill(this.host, buttons);
  }

  /**
   * Pictures of its test split; they need a key, for which nobody is asked here.
   * @param {string} dataset
   */
  async #own(dataset) {
    const mine = ++this.#asked;
    this.#fill([]);
    if (!dataset || !this.api.key) return;
    /** @type {Wire.SampleBody[]} */
    let samples = [];
    try {
      samples = await this.api.get(dataPath(dataset, `/samples?split=test&limit=${SOME}`));
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // else it is gone, or the key may not see it
    }
    if (mine === this.#asked) this.#fill(samples.map((sample) => this.#sample(sample)));
  }

  /**
   * @param {string} label
   * @param {string} file
   */
  #shipped(label, file) {
    const url = `static/page/samples/${file}.png`;
    const place = async () => this.place(await (await this.api.request(url)).blob(), `${file}.png`);
    return button(label, url, place);
  }

  /** @param {Wire.SampleBody} sample */
  #sample({ label, row, image, original }) {
    const url = original ?? image;
    const blob = blobOf(url);
    return button(label, url, () => this.place(blob, `${label}-${row}.${blob.type.split("/")[1]}`));
  }
}

/**
 * @param {string} label
 * @param {string} url
 * @param {() => Promise<void>} place
 */
function button(label, url, place) {
  const image = h("img", { src: url, alt: "", width: 28, height: 28 });
  return h("button", { type: "button", onclick: place, "aria-label": `Sample: ${label}`, title: label }, image);
}

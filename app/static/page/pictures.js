// Pictures of a data set by class: as the model sees them, and as they came.

import { fill, h, loading, note, trouble } from "./dom.js";
import { Problem } from "./api.js";
import { dataPath } from "./paths.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const SOME = "24";

export class Pictures {
  #asked = 0; // what was asked for before is not shown any more

  /**
   * @param {Api} api
   * @param {string} reference
   * @param {string[]} classes to choose from
   */
  constructor(api, reference, classes) {
    this.api = api;
    this.reference = reference;
    this.body = h("div", { "aria-live": "polite" });
    this.label = choice("Class", "of-class", [["", "all"], ...classes.map(same)]);
    this.split = choice("Split", "of-split", [["", "all"], ...["train", "validation", "test"].map(same)]);
    for (const { control } of [this.label, this.split]) control.onchange = () => this.#load();
    this.element = h(
      "section.sheet",
      { "aria-labelledby": "pictures-title" },
      h("h2", { id: "pictures-title" }, "Pictures"),
      h("p.fine", "As the model sees them; beside it, where it is kept, the picture as it came."),
      classes.length > 0 && h("p.actions.which", this.label.element, this.split.element),
      this.body,
    );
    if (api.key) this.#load();
    else fill(this.body, this.#closed());
  }

  #closed() {
    const open = async () => {
      if (await this.api.needKey()) await this.#load();
    };
    return [
      h("p.fine", "They may be people's: they are shown with a key."),
      h("p.actions", h("button", { type: "button", onclick: open }, "Show them")),
    ];
  }

  async #load() {
    const mine = ++this.#asked;
    const search = new URLSearchParams({ limit: SOME });
    if (this.label.control.value) search.set("class", this.label.control.value);
    if (this.split.control.value) search.set("split", this.split.control.value);
    if (!this.body.querySelector(".samples-of")) fill(this.body, loading("Fetching"));
    try {
      /** @type {Wire.SampleBody[]} */
      const samples = await this.api.get(dataPath(this.reference, `/samples?${search}`));
      if (mine === this.#asked) fill(this.body, shown(samples));
    } catch (error) {
      if (mine === this.#asked) fill(this.body, this.#wrong(error));
    }
  }

  /** @param {unknown} error */
  #wrong(error) {
    const status = error instanceof Problem ? error.status : 0;
    if (status === 401 || status === 403) return this.#closed();
    if (status === 409)
      return note("empty", "The pictures are not here", "A training job on this data set downloads them.");
    return trouble(error, () => this.#load());
  }
}

/** @param {Wire.SampleBody[]} samples */
function shown(samples) {
  if (!samples.length) return note("empty", "No pictures", "This class has none in this split.");
  return h("ul.samples-of", { role: "list" }, samples.map(picture));
}

/** @param {Wire.SampleBody} sample */
function picture({ label, split, image, original }) {
  return h(
    "li",
    h(
      "div.pair",
      h("img.pixels", { src: image, alt: `${label}, as the model sees it` }),
      original && h("img", { src: original, alt: `${label}, as it came` }),
    ),
    h("p", h("b", label), h("small", ` ${split}`)),
  );
}

/** @param {string} text */
export const same = (text) => /** @type {[string, string]} */ ([text, text]);

/**
 * @param {string} label
 * @param {string} id
 * @param {[value: string, text: string][]} options
 */
export function choice(label, id, options) {
  const control = h(
    "select",
    { id },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  return { control, element: h("label", `${label} `, control) };
}

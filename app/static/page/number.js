// Several digits in a picture: all of them read, a box around each, which can be pressed and corrected.

import { act, fill, h, trouble } from "./dom.js";
import { percent } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Asked, Picture } from "./answer.js" */

export class NumberReading {
  #url = ""; // of the picture
  #asked = 0;
  /** @type {string[]} */
  #classes = [];

  /**
   * @param {Api} api
   * @param {HTMLElement} box
   */
  constructor(api, box) {
    this.api = api;
    this.box = box;
    this.image = h("img", { alt: "" });
    this.marks = h("div.marks", { role: "group", "aria-label": "Digits" });
    this.done = h("p.done", { role: "status" });
    this.labels = h("div.labels");
  }

  hide() {
    this.#asked += 1;
    this.box.hidden = true;
  }

  /**
   * @param {Picture} picture
   * @param {Asked} model
   */
  async show(picture, model) {
    const mine = ++this.#asked;
    this.#classes = model.classes;
    try {
      const response = await this.api.request(`predict?model=${encodeURIComponent(model.ref)}&read=number`, {
        method: "POST",
        headers: { "content-type": picture.blob.type },
        body: picture.blob,
      });
      /** @type {Wire.NumberBody} */
      const found = await response.json();
      if (mine === this.#asked) this.#draw(picture, found);
    } catch (error) {
      if (mine === this.#asked) this.#put(trouble(error));
    }
  }

  /**
   * @param {Picture} picture
   * @param {Wire.NumberBody} found
   */
  #draw(picture, found) {
    URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(picture.blob);
    this.image.src = this.#url;
    const { size } = found.input;
    this.image.alt = `The picture, with ${found.number} in it`;
    fill(
      this.marks,
      found.digits.map((digit) => this.#mark(digit, size)),
    );
    fill(this.labels);
    fill(this.done);
    this.#put(
      h(
        "p.number",
        { id: "number-text" },
        found.lines.map((line) => h("span", line)),
      ),
      h("p.fine", `All digits right: ${percent(found.probability, 1)}. `, this.#hint(found)),
      h("div.marked", this.image, this.marks),
      this.labels,
      this.done,
    );
  }

  /** @param {Wire.NumberBody} found */
  #hint({ digits }) {
    return digits.every(({ id }) => id) ? "Press a digit that is wrong." : "";
  }

  /**
   * @param {Wire.DigitBody} digit
   * @param {[width: number, height: number]} size of the picture
   */
  #mark(digit, [width, height]) {
    const [x, y, wide, tall] = digit.box;
    const share = (/** @type {number} */ part, /** @type {number} */ of) => `${(100 * part) / of}%`;
    const mark = h(
      "button.mark",
      {
        type: "button",
        disabled: !digit.id,
        "aria-label": `${digit.label}, ${percent(digit.probability, 1)}`,
        title: `${digit.label}, ${percent(digit.probability, 1)}`,
        "--left": share(x, width),
        "--top": share(y, height),
        "--wide": share(wide, width),
        "--tall": share(tall, height),
        onclick: () => this.#ask(digit, mark),
      },
      h("b", digit.label),
    );
    return mark;
  }

  /**
   * @param {Wire.DigitBody} digit
   * @param {HTMLElement} mark
   */
  #ask(digit, mark) {
    for (const other of this.marks.children) other.ariaPressed = String(other === mark);
    const say = (/** @type {string} */ text) => fill(this.done, text);
    fill(
      this.labels,
      h("p.fine", `Not ${digit.label}? It was a …`),
      this.#classes.map((label) => act(label, () => this.#correct(digit, label, mark), { say })),
    );
  }

  /**
   * @param {Wire.DigitBody} digit
   * @param {string} label
   * @param {HTMLElement} mark
   */
  async #correct(digit, label, mark) {
    await this.api.change("POST", "feedback", { prediction: digit.id, label });
    fill(mark, h("b", label));
    mark.classList.add("corrected");
    fill(this.labels);
    fill(this.done, `Thank you: kept as ${label}.`);
  }

  /** @param {...HTMLElement} children */
  #put(...children) {
    fill(this.box, h("h2.minor", { id: "number-title" }, "Several digits"), ...children);
    this.box.hidden = false;
  }
}

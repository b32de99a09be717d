// Loss and accuracy of a job, as they come: two curves, and a table.

import { h } from "./dom.js";
import { Plot } from "./plot.js";

/** @import * as Wire from "./wire.d.ts" */
/**
 * @typedef {object} Point
 * @property {number} x in epochs
 * @property {number} train_loss
 * @property {number} train_accuracy
 * @property {number} [loss] of the images held out, at the end of an epoch
 * @property {number} [accuracy]
 */

const percents = (/** @type {number} */ value) => `${(value * 100).toFixed(2)} %`;
const COLUMNS = ["Epoch", "Training loss", "accuracy", "Held-out loss", "accuracy", "Seconds"];

export class Curves {
  /** @type {Point[]} */
  #points = []; // sorted by x
  #due = 0; // a frame in which they are drawn

  constructor() {
    this.loss = new Plot("Loss", (value) => String(Number(value.toFixed(4))));
    this.accuracy = new Plot("Accuracy", (value) => `${Number((value * 100).toFixed(2))} %`);
    this.rows = h("tbody");
    this.split = h("span", "validation");
    this.element = h(
      "div.curves",
      h("p.legend", h("i.train"), "training", h("i.held"), this.split),
      h("figure.curve", h("figcaption", "Loss"), this.loss.element),
      h("figure.curve", h("figcaption", "Accuracy"), this.accuracy.element),
      this.#numbers(),
    );
    this.resized = new ResizeObserver(() => this.plots.forEach((plot) => plot.fit()));
    this.resized.observe(this.element);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.themed = () => this.plots.forEach((plot) => plot.build());
    this.theme.addEventListener("change", this.themed);
    this.themed();
  }

  get plots() {
    return [this.loss, this.accuracy];
  }

  #numbers() {
    const title = "Every epoch in numbers";
    const head = COLUMNS.map((text) => h("th", { scope: "col" }, text));
    return h(
      "details.numbers",
      h("summary", title),
      h(
        "div.wide",
        { tabindex: "0", role: "region", "aria-label": title },
        h("table", h("thead", h("tr", head)), this.rows),
      ),
    );
  }

  /** @param {Wire.Step} step */
  step({ epoch, step, steps, loss, accuracy }) {
    this.#add({ x: epoch - 1 + step / steps, train_loss: loss, train_accuracy: accuracy });
  }

  /** @param {Wire.Epoch} data */
  epoch(data) {
    const { epoch, split, train_loss, train_accuracy, loss, accuracy, seconds } = data;
    this.split.textContent = split;
    this.#add({ x: epoch, train_loss, train_accuracy, loss, accuracy });
    const cells = [
      String(epoch),
      train_loss.toFixed(4),
      percents(train_accuracy),
      loss.toFixed(4),
      percents(accuracy),
      seconds.toFixed(1),
    ];
    for (const row of [...this.rows.rows].slice(epoch - 1)) row.remove();
    this.rows.append(
      h(
        "tr",
        cells.map((text) => h("td", text)),
      ),
    );
    this.loss.element.ariaLabel = `Loss after epoch ${epoch}: training ${cells[1]}, ${split} ${cells[3]}`;
    this.accuracy.element.ariaLabel = `Accuracy after epoch ${epoch}: training ${cells[2]}, ${split} ${cells[4]}`;
  }

  remove() {
    this.resized.disconnect();
    this.theme.removeEventListener("change", this.themed);
    for (const plot of this.plots) plot.remove();
  }

  /**
   * A job that went on from its last complete epoch goes over the same ground again.
   * @param {Point} point
   */
  #add(point) {
    while ((this.#points.at(-1)?.x ?? -1) >= point.x) this.#points.pop();
    this.#points.push(point);
    this.#due ||= requestAnimationFrame(() => {
      this.#due = 0;
      this.#draw();
    });
  }

  #draw() {
    const column = (/** @type {keyof Point} */ name) => this.#points.map((point) => point[name] ?? null);
    this.loss.show([column("x"), column("train_loss"), column("loss")]);
    this.accuracy.show([column("x"), column("train_accuracy"), column("accuracy")]);
  }
}

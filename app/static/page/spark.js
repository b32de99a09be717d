// A line of the last minutes, without axes: its element says the numbers in words.

import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [200, 40];

export class Spark {
  /** @type {(number | null)[]} */
  #values = [];

  /** @param {number} most values that are shown */
  constructor(most) {
    this.most = most;
    this.line = document.createElementNS(SVG, "path");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.line);
    this.element = h("div.spark", svg);
  }

  /** @param {number | null} value of now; null breaks the line */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > this.most) this.#values.shift();
    this.#draw();
  }

  #draw() {
    const top = Math.max(...this.#values.map((value) => value ?? 0), 1e-9);
    const first = this.most - this.#values.length;
    let pen = "M";
    let path = "";
    for (const [index, value] of this.#values.entries()) {
      if (value === null) {
        pen = "M";
        continue;
      }
      const x = ((first + index) / (this.most - 1)) * WIDTH;
      path += `${pen}${x.toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
      pen = "L";
    }
    this.line.setAttribute("d", path);
  }
}

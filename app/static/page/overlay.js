// One figure of several runs over their epochs, with a cursor that tells the values.

import { h } from "./dom.js";
import { Library } from "./plot.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Chart } from "./plot.js" */
/** @import { Line } from "./beside.js" */

const HEIGHT = 230;
const COLOURS = ["#c8502a", "#2b7fb8", "#5b9a3c", "#a35ab0", "#b8860b", "#7a7f85"];

export class Overlay {
  /** @type {Chart | null} */
  #chart = null;
  #drawn = 0; // drawings that were asked for

  /**
   * @param {string} title
   * @param {Line[]} lines
   * @param {(epoch: Wire.Epoch) => number} of
   */
  constructor(title, lines, of) {
    this.title = title;
    this.lines = lines;
    this.of = of;
    const last = lines.map(
      ({ name, epochs }) =>
        `${name} ${epochs.length ? short(of(/** @type {Wire.Epoch} */ (epochs.at(-1)))) : "nothing"}`,
    );
    this.host = h("div.plot", { role: "img", "aria-label": `${title} at the end: ${last.join(", ")}` });
    this.element = h("figure.curve", h("figcaption", title), this.host);
    this.resized = new ResizeObserver(() => this.#chart?.setSize(this.#size));
    this.resized.observe(this.element);
  }

  get #size() {
    return { width: Math.max(240, this.host.clientWidth || 240), height: HEIGHT };
  }

  /**
   * @param {number} smoothing 0..1, the weight of what was before
   * @param {boolean} log
   */
  async draw(smoothing, log) {
    const mine = ++this.#drawn;
    const Chart = await Library.load();
    if (mine !== this.#drawn) return;
    this.#chart?.destroy();
    this.#chart = new Chart(this.#options(log), this.#columns(smoothing), this.host);
  }

  remove() {
    this.#drawn += 1;
    this.resized.disconnect();
    this.#chart?.destroy();
    this.#chart = null;
  }

  /** @param {number} smoothing */
  #columns(smoothing) {
    const longest = Math.max(1, ...this.lines.map(({ epochs }) => epochs.at(-1)?.epoch ?? 1));
    const x = Array.from({ length: longest }, (_, index) => index + 1);
    const columns = this.lines.map(({ epochs }) => {
      const values = smoothed(epochs.map(this.of), smoothing);
      const at = new Map(epochs.map(({ epoch }, index) => [epoch, values[index]]));
      return x.map((epoch) => at.get(epoch) ?? null);
    });
    return [x, ...columns];
  }

  /** @param {boolean} log */
  #options(log) {
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const values = (/** @type {unknown} */ _, /** @type {number[]} */ ticks) =>
      ticks.map((tick) => (tick === null ? "" : short(tick)));
    const value = (/** @type {unknown} */ _, /** @type {number | null} */ it) =>
      it === null ? "–" : short(it);
    return {
      ...this.#size,
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [
        { ...axis, size: 28 },
        { ...axis, size: 58, values },
      ],
      series: [
        { label: "Epoch" },
        ...this.lines.map(({ name }, index) => ({
          label: name,
          stroke: COLOURS[index],
          width: 2,
          spanGaps: true,
          points: { show: true, size: 4 },
          value,
        })),
      ],
    };
  }
}

/** @param {number} value */
const short = (value) => String(Number(value.toPrecision(4)));

/**
 * Exponential moving average, without the bias of its beginning.
 * @param {number[]} values
 * @param {number} weight of what was before
 */
function smoothed(values, weight) {
  let [sum, mass] = [0, 0];
  return values.map((value) => {
    [sum, mass] = [weight * sum + (1 - weight) * value, weight * mass + (1 - weight)];
    return sum / mass;
  });
}

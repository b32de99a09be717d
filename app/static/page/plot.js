// One curve over epochs, drawn by uPlot, which is fetched when the first curve is.

import { h } from "./dom.js";

/** @typedef {(number | null | undefined)[][]} Columns x, training, held out */
/**
 * @typedef {object} Chart as far as it is used of uPlot's
 * @property {(columns: Columns) => void} setData
 * @property {(size: { width: number, height: number }) => void} setSize
 * @property {() => void} destroy
 */
/** @typedef {new (options: object, columns: Columns, host: HTMLElement) => Chart} ChartClass */

const HEIGHT = 190;
const LIBRARY = new URL("vendor/uPlot.iife.min.js", import.meta.url).href;

export class Library {
  /** @type {Promise<ChartClass> | undefined} */
  static #loading;

  static load() {
    this.#loading ??= new Promise((done, fail) => {
      const known = /** @type {{ uPlot: ChartClass }} */ (/** @type {unknown} */ (globalThis));
      const onload = () => done(known.uPlot);
      document.head.append(h("script", { src: LIBRARY, onload, onerror: fail }));
    });
    return this.#loading;
  }
}

export class Plot {
  /** @type {Chart | null} */
  #chart = null;
  /** @type {Columns} */
  #columns = [[], [], []];

  /**
   * @param {string} name
   * @param {(value: number) => string} text of a value on the axis
   */
  constructor(name, text) {
    this.text = text;
    this.element = h("div.plot", { role: "img", "aria-label": `${name}: nothing yet` });
  }

  /** Draws anew, in the present colours. */
  async build() {
    const Chart = await Library.load();
    this.remove();
    this.#chart = new Chart(this.#options(), this.#columns, this.element);
  }

  /** @param {Columns} columns */
  show(columns) {
    this.#columns = columns;
    this.#chart?.setData(columns);
  }

  fit() {
    this.#chart?.setSize({ width: this.#width, height: HEIGHT });
  }

  remove() {
    this.#chart?.destroy();
    this.#chart = null;
  }

  get #width() {
    return Math.max(200, this.element.clientWidth || 200);
  }

  #options() {
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const [held, train] = [colour("--accent"), colour("--curve")];
    const axis = {
      stroke: colour("--muted"),
      font: `12px ${colour("--sans")}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const values = (/** @type {unknown} */ _, /** @type {number[]} */ ticks) => ticks.map(this.text);
    return {
      width: this.#width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: epochs }, y: { range: () => this.#range() } },
      axes: [
        { ...axis, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200], grid: { show: false } },
        { ...axis, size: 52, values },
      ],
      series: [
        {},
        { stroke: train, width: 1.5, spanGaps: true, points: { show: false } },
        { stroke: held, width: 2, spanGaps: true, points: { show: true, size: 6, fill: held } },
      ],
    };
  }

  /** @returns {[number, number]} lowest and highest value on the axis */
  #range() {
    const values = this.#columns
      .slice(1)
      .flat()
      .filter((value) => typeof value === "number");
    if (!values.length) return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.08 * (high - low) || 0.01;
    return [low - margin, high + margin];
  }
}

/**
 * @param {unknown} _
 * @param {number | null} __
 * @param {number | null} high
 * @returns {[number, number]}
 */
function epochs(_, __, high) {
  return [0, Math.max(1, Math.ceil(high ?? 1))];
}

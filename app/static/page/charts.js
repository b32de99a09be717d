// Loss and accuracy of a job, as they come. Drawn by uPlot, which is fetched when the first curve is.

import { h } from "./dom.js";

const HEIGHT = 190;
const KINDS = [
  { name: "Loss", train: "train_loss", held: "loss", text: (value) => value.toFixed(4) },
  {
    name: "Accuracy",
    train: "train_accuracy",
    held: "accuracy",
    text: (value) => `${(value * 100).toFixed(2)} %`,
  },
];

let library = null;

function uPlotLibrary() {
  library ??= new Promise((done, fail) => {
    const script = h("script", {
      src: "/static/page/vendor/uPlot.iife.min.js",
      onload: () => done(window.uPlot),
      onerror: fail,
    });
    document.head.append(script);
  });
  return library;
}

export class Curves {
  #points = []; // {x in epochs, train_loss, train_accuracy, loss, accuracy}, sorted by x
  #charts = [];
  #due = false;

  constructor() {
    this.hosts = KINDS.map(({ name }) => h("div.plot", { role: "img", "aria-label": `${name}: nothing yet` }));
    this.rows = h("tbody");
    this.split = h("span", "validation");
    this.element = h(
      "div.curves",
      h("p.legend", h("i.train"), "training", h("i.held"), this.split),
      KINDS.map(({ name }, index) => h("figure.curve", h("figcaption", name), this.hosts[index])),
      h(
        "details.numbers",
        h("summary", "Every epoch in numbers"),
        h(
          "div.wide",
          { tabindex: "0", role: "region", "aria-label": "Every epoch in numbers" },
          h(
            "table",
            h(
              "thead",
              h(
                "tr",
                ["Epoch", "Training loss", "accuracy", "Held-out loss", "accuracy", "Seconds"].map((text) =>
                  h("th", { scope: "col" }, text),
                ),
              ),
            ),
            this.rows,
          ),
        ),
      ),
    );
    this.#build();
    this.resized = new ResizeObserver(() => this.#fit());
    this.resized.observe(this.element);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.themed = () => this.#build();
    this.theme.addEventListener("change", this.themed);
  }

  step({ epoch, step, steps, loss, accuracy }) {
    this.#add({ x: epoch - 1 + step / steps, train_loss: loss, train_accuracy: accuracy });
  }

  epoch(data) {
    this.split.textContent = data.split;
    this.#add({
      x: data.epoch,
      train_loss: data.train_loss,
      train_accuracy: data.train_accuracy,
      loss: data.loss,
      accuracy: data.accuracy,
    });
    const cells = [
      data.epoch,
      data.train_loss.toFixed(4),
      KINDS[1].text(data.train_accuracy),
      data.loss.toFixed(4),
      KINDS[1].text(data.accuracy),
      data.seconds.toFixed(1),
    ];
    this.rows.querySelectorAll("tr").forEach((row, index) => {
      if (index >= data.epoch - 1) row.remove();
    });
    this.rows.append(
      h(
        "tr",
        cells.map((text) => h("td", String(text))),
      ),
    );
    KINDS.forEach(({ name, train, held, text }, index) => {
      this.hosts[index].setAttribute(
        "aria-label",
        `${name} after epoch ${data.epoch}: training ${text(data[train])}, ${data.split} ${text(data[held])}`,
      );
    });
  }

  remove() {
    this.resized.disconnect();
    this.theme.removeEventListener("change", this.themed);
    for (const chart of this.#charts) chart.destroy();
  }

  /** A job that went on from its last complete epoch goes over the same ground again. */
  #add(point) {
    while (this.#points.length && this.#points.at(-1).x >= point.x) this.#points.pop();
    this.#points.push(point);
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#charts.forEach((chart, index) => chart.setData(this.#data(KINDS[index])));
    });
  }

  #data({ train, held }) {
    const column = (name) => this.#points.map((point) => point[name] ?? null);
    return [column("x"), column(train), column(held)];
  }

  async #build() {
    const uPlot = await uPlotLibrary();
    for (const chart of this.#charts) chart.destroy();
    const style = getComputedStyle(document.documentElement);
    const [ink, line, train, held] = ["--muted", "--line", "--curve", "--accent"].map((name) =>
      style.getPropertyValue(name).trim(),
    );
    const axis = {
      stroke: ink,
      font: `12px ${style.getPropertyValue("--sans")}`,
      grid: { stroke: line, width: 1 },
      ticks: { show: false },
    };
    this.#charts = KINDS.map(
      (kind, index) =>
        new uPlot(
          {
            width: this.#width(index),
            height: HEIGHT,
            legend: { show: false },
            cursor: { show: false },
            scales: {
              x: { time: false, range: (_, low, high) => [0, Math.max(1, Math.ceil(high ?? 1))] },
              y: { range: () => this.#range(kind) },
            },
            axes: [
              { ...axis, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200], grid: { show: false } },
              {
                ...axis,
                size: 52,
                values: (_, ticks) =>
                  ticks.map((tick) => (index ? `${+(tick * 100).toFixed(2)} %` : String(+tick.toFixed(4)))),
              },
            ],
            series: [
              {},
              { stroke: train, width: 1.5, spanGaps: true, points: { show: false } },
              { stroke: held, width: 2, spanGaps: true, points: { show: true, size: 6, fill: held } },
            ],
          },
          this.#data(kind),
          this.hosts[index],
        ),
    );
  }

  /** The first epoch falls so far that nothing else would be seen beside it. */
  #range({ train, held }) {
    const from = (this.#points.at(-1)?.x ?? 0) > 2 ? 1 : 0;
    const values = this.#points
      .filter(({ x }) => x >= from)
      .flatMap((point) => [point[train], point[held]])
      .filter((value) => value !== undefined);
    if (!values.length) return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.08 * (high - low) || 0.01;
    return [low - margin, high + margin];
  }

  #width(index) {
    return Math.max(200, this.hosts[index].clientWidth || 200);
  }

  #fit() {
    this.#charts.forEach((chart, index) => chart.setSize({ width: this.#width(index), height: HEIGHT }));
  }
}

// Live: what happens now, a second at a time. For operators: it needs a key of scope admin.

import { $, fill, h, loading, trouble } from "./dom.js";
import { mixes } from "./mix.js";
import { jobs, machine, problems, requests, tasks } from "./operation.js";
import { Spark } from "./spark.js";
import { bytes, count } from "./text.js";
import { traffic } from "./traffic.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const SHOWN = 180; // seconds of a line

export class LiveView {
  /** @type {AbortController | null} */
  #following = null;
  #paused = false;
  /** @type {Record<string, string>} what each part shows, so that it is only drawn anew when that changes */
  #drawn = {};

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.figures = new Figures();
    /** @type {Record<string, HTMLElement>} */
    this.parts = {};
    document.addEventListener("visibilitychange", () => {
      if ($("live").hidden) return;
      if (document.hidden) this.#stop();
      else if (!this.#paused) this.#start();
    });
  }

  async show() {
    this.#paused = false;
    this.#start();
  }

  leave() {
    this.#stop();
  }

  #stop() {
    this.#following?.abort();
    this.#following = null;
  }

  async #start() {
    this.#stop();
    const { signal } = (this.#following = new AbortController());
    const host = $("live-body");
    if (!host.querySelector(".live")) fill(host, loading("Looking at the service"));
    try {
      for await (const { kind, data } of this.api.follow("live/events", signal)) {
        if (signal.aborted) return;
        if (kind === "live") this.#see(data);
      }
    } catch (error) {
      if (signal.aborted) return;
      const again = async () => {
        if (this.api.key || (await this.api.needKey())) this.#start();
      };
      fill(host, trouble(error, again));
      this.#drawn = {};
    }
  }

  /** @param {Wire.MomentBody} body */
  #see(body) {
    const host = $("live-body");
    if (!host.querySelector(".live")) fill(host, this.#frame());
    this.figures.add(body);
    this.#part("models", body.models, () => mixes(this.api, body.models));
    this.#part("traffic", body.traffic, () => traffic(this.api, body.traffic));
    this.#part("problems", [body.problems, body.refused], () => problems(body));
    this.#part("requests", body.requests, () => requests(body.requests));
    this.#part("jobs", [body.jobs, body.job_counts, body.trainers], () => jobs(body));
    this.#part("machine", [body.workers, body.disk, body.database, body.host], () => machine(body));
    this.#part("tasks", body.tasks, () => tasks(body.tasks));
  }

  /**
   * @param {string} name
   * @param {unknown} of what it shows
   * @param {() => (HTMLElement | null)[]} draw
   */
  #part(name, of, draw) {
    const now = JSON.stringify(of);
    const host = this.parts[name];
    if (!host || this.#drawn[name] === now) return;
    this.#drawn[name] = now;
    const focused = host.contains(document.activeElement) ? document.activeElement : null;
    const link = focused?.getAttribute("href");
    fill(host, draw());
    if (!(focused instanceof HTMLElement)) return;
    if (focused.isConnected) focused.focus({ preventScroll: true });
    else if (link) host.querySelector(/** @type {"a"} */ (`[href="${link}"]`))?.focus({ preventScroll: true });
  }

  #frame() {
    this.#drawn = {};
    const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
    pause.onclick = () => {
      this.#paused = !this.#paused;
      pause.textContent = this.#paused ? "Go on" : "Pause";
      pause.ariaPressed = String(this.#paused);
      if (this.#paused) this.#stop();
      else this.#start();
    };
    /** @type {[string, string][]} */
    const sections = [
      ["models", "What models answer"],
      ["traffic", "Shared traffic"],
      ["problems", "Errors"],
      ["requests", "Last requests"],
      ["jobs", "Jobs"],
      ["machine", "This machine"],
      ["tasks", "In the background"],
    ];
    return h(
      "div.live",
      h("div.line", h("p.fine", "Measured once a second, while this page is open."), pause),
      this.figures.element,
      sections.map(([name, title]) => {
        const body = (this.parts[name] = h("div.part"));
        const id = `live-${name}-title`;
        return h("section.sheet", { "aria-labelledby": id, "data-part": name }, h("h2", { id }, title), body);
      }),
    );
  }
}

/** The numbers that move: requests, latency, what waits, batches. */
class Figures {
  constructor() {
    this.rate = new Figure("Requests per second");
    this.images = new Figure("Answers per second");
    this.median = new Figure("Half answered within");
    this.slow = new Figure("99 % answered within");
    this.waiting = new Figure("Images that wait");
    this.batches = new Figure("Images of a forward pass");
    this.element = h(
      "dl.figures",
      [...this.all].map((figure) => figure.element),
    );
  }

  get all() {
    return [this.rate, this.images, this.median, this.slow, this.waiting, this.batches];
  }

  /** @param {Wire.MomentBody} body */
  add(body) {
    const { requests_per_second: rate, images_per_second: images, p50_ms: median, p99_ms: slow } = body;
    this.rate.show(tenth(rate), rate);
    this.images.show(tenth(images), images);
    this.median.show(milliseconds(median), median);
    this.slow.show(milliseconds(slow), slow);
    const queue = `99 % waited ${milliseconds(body.wait_p99_ms)}, ${bytes(body.waiting_bytes)} held`;
    this.waiting.show(count(body.waiting_images), body.waiting_images, queue);
    const most = body.batches.at(-1)?.most ?? null;
    const passes = body.batches.reduce((sum, batch) => sum + batch.count, 0);
    const sizes = body.batches.map((batch) => `${count(batch.count)} of up to ${batch.most}`).join(", ");
    this.batches.show(most === null ? "–" : `≤ ${most}`, passes, sizes || "none now");
  }
}

class Figure {
  /** @param {string} name */
  constructor(name) {
    this.value = h("span.figure", "–");
    this.more = h("small");
    this.spark = new Spark(SHOWN);
    this.element = h("div.sheet", h("dt", name), h("dd", this.value, this.spark.element, this.more));
  }

  /**
   * @param {string} text
   * @param {number | null} value
   * @param {string} more
   */
  show(text, value, more = "") {
    this.value.textContent = text;
    this.more.textContent = more;
    this.spark.add(value);
  }
}

/** @param {number} value */
const tenth = (value) => (value >= 100 ? count(Math.round(value)) : String(Math.round(value * 10) / 10));

/** @param {number | null} value */
const milliseconds = (value) =>
  value === null ? "–" : value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value.toPrecision(2)} ms`;

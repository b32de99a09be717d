// One job: its progress, its curves, and what came out.

import { Away } from "./api.js";
import { Curves } from "./charts.js";
import { act, fill, h, loading, trouble } from "./dom.js";
import { Foretold } from "./foretold.js";
import { labels, labelsForm } from "./labels.js";
import { Outcome } from "./outcome.js";
import { clock, count, duration, percent, plural, sentences, when } from "./text.js";
import { plain } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const REPORT = "report.html";
const ENDED = ["succeeded", "failed", "cancelled"];

/** @param {string} text */
export const status = (text) => h("span.status", { "data-status": text }, text);

/** Where jobs are shown, one at a time. */
export class JobPanel {
  /** @type {Watched | null} */
  #watched = null;

  /**
   * @param {Api} api
   * @param {HTMLElement} host
   * @param {() => void} onNews called when the job's status has changed
   */
  constructor(api, host, onNews) {
    this.api = api;
    this.host = host;
    this.onNews = onNews;
  }

  get id() {
    return this.#watched?.id;
  }

  /**
   * Shows a job, or none, and follows it.
   * @param {string | null} id
   * @param {boolean} report whether its report is shown instead of its curves
   */
  watch(id, report = false) {
    if (id && id === this.id) {
      this.#watched?.turn(report);
      return;
    }
    this.#watched?.stop();
    this.#watched = null;
    this.host.replaceChildren();
    if (!id) return;
    this.#begin(id, report);
    const { top } = this.host.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) this.host.scrollIntoView();
  }

  /**
   * @param {string} id
   * @param {boolean} report
   */
  #begin(id, report) {
    const again = () => {
      this.#watched?.stop();
      this.#begin(id, this.#watched?.reported ?? false);
    };
    this.#watched = new Watched(this.api, id, this.onNews, again);
    this.#watched.turn(report);
    fill(this.host, this.#watched.sheet, this.#watched.outcome.element);
  }
}

class Watched {
  #abort = new AbortController();

  /**
   * @param {Api} api
   * @param {string} id
   * @param {() => void} onNews
   * @param {() => void} again watches it anew
   */
  constructor(api, id, onNews, again) {
    this.api = api;
    this.id = id;
    this.path = `train/${encodeURIComponent(id)}`;
    this.onNews = onNews;
    this.again = again;
    this.curves = new Curves();
    this.said = h("p.problem", { role: "alert" });
    this.outcome = new Outcome(
      api,
      (text) => fill(this.said, text),
      () => this.#offer(),
    );
    this.reported = false;
    this.report = h("div", { hidden: true });
    this.tabs = h("nav.tabs", { "aria-label": "Parts of the run", hidden: true });
    this.naming = h("details", { hidden: true });
    this.head = h("div", loading("Reading the job"));
    this.live = h("p.visually-hidden", { role: "status" });
    this.bar = h("progress", { "aria-label": "Epochs" });
    this.line = h("p.fine.progress-line");
    this.foretold = new Foretold();
    this.notes = h("ul.notes", { role: "list", "aria-label": "What the run has decided" });
    this.sheet = h(
      "div.sheet.job",
      this.head,
      this.naming,
      this.live,
      this.said,
      this.tabs,
      this.notes,
      this.curves.element,
      this.report,
    );
    this.#attend();
  }

  stop() {
    this.#abort.abort();
    this.curves.remove();
  }

  /** @param {boolean} report whether it is shown, where there is one, instead of the curves */
  turn(report) {
    this.reported = report;
    this.#offer();
  }

  /** The tabs, once the run has left a report. */
  #offer() {
    const there = this.outcome.files.some(({ name }) => name === REPORT);
    const shown = there && this.reported;
    this.tabs.hidden = !there;
    this.report.hidden = !shown;
    for (const each of [this.notes, this.curves.element, this.outcome.element]) each.hidden = shown;
    const link = (/** @type {string} */ text, /** @type {string} */ rest, /** @type {boolean} */ now) =>
      h("a", { href: `#/${this.path}${rest}`, "aria-current": now && "page" }, text);
    fill(this.tabs, link("Curves", "", !shown), link("Report", "/report", shown));
    if (!shown || this.report.childElementCount) return;
    const src = `${this.path}/artifacts/${REPORT}`;
    const frame = () => h("iframe.report", { src, title: "Report of the run", sandbox: "" });
    fill(
      this.report,
      this.outcome.closed ? null : frame(),
      h("p", this.outcome.file(this.id, REPORT, this.outcome.closed ? "Save the report" : "The report alone")),
    );
  }

  /** @param {Wire.JobBody} job */
  #name(job) {
    if (this.naming.open) return; // somebody writes
    const done = (/** @type {Wire.JobBody} */ now) => {
      this.naming.open = false;
      this.#show(now);
    };
    this.naming.hidden = false;
    fill(this.naming, h("summary", "Name, notes, tags"), labelsForm(this.api, job, done, "job-labels"));
  }

  /** Follows the job until it has ended. */
  async #attend() {
    try {
      for await (const { kind, data } of this.api.follow(`${this.path}/events`, this.#abort.signal)) {
        if (kind === "step") this.#step(data);
        if (kind === "epoch") this.#epoch(data);
        if (kind === "note") this.notes.append(h("li", sentences(plain(data.text))));
        if (kind === "status") await this.#news();
      }
      if (!this.#abort.signal.aborted) this.#show(await this.api.get(this.path));
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      if (!(error instanceof Away)) fill(this.head, trouble(error, this.again));
      else await this.api.back().then(() => this.#abort.signal.aborted || this.again());
    }
  }

  async #news() {
    this.#show(await this.api.get(this.path));
    this.onNews();
  }

  /** @param {Wire.Step} data */
  #step(data) {
    this.curves.step(data);
    const speed = `${count(Math.round(data.images_per_second))} per second`;
    this.#progress(data, data.step / data.steps, speed, this.foretold.step(data));
  }

  /** @param {Wire.Epoch} data */
  #epoch(data) {
    this.curves.epoch(data);
    this.#progress(data, 1, "", this.foretold.epoch(data));
  }

  /**
   * @param {Wire.Step | Wire.Epoch} data
   * @param {number} done share of the epoch
   * @param {string} speed
   * @param {number} left seconds
   */
  #progress(data, done, speed, left) {
    const { epoch, epochs, loss, accuracy, trial, trials } = data;
    this.bar.max = epochs;
    this.bar.value = epoch - 1 + done;
    const parts = [
      trial ? `Trial ${trial} of ${trials}` : "",
      `Epoch ${epoch} of ${epochs}`,
      `loss ${loss.toFixed(3)}`,
      `accuracy ${percent(accuracy, 1)}`,
    ];
    const until = left >= 60 ? `, until ${clock(left)}` : "";
    if (left > 0) parts.push(`about ${duration(left)} left${until}`);
    this.line.textContent = [...parts, speed].filter(Boolean).join(" · ");
  }

  /** @param {Wire.JobBody} job */
  #show(job) {
    if (this.#abort.signal.aborted) return;
    this.#name(job);
    const wrong = sentences(plain(job.error ?? job.warning));
    const news = [`${job.model}: ${job.status}.`, wrong].filter(Boolean).join(" ");
    if (this.live.textContent !== news) this.live.textContent = news;
    this.bar.max = job.epochs ?? 1;
    this.bar.value = job.epoch;
    this.line.textContent = lineOf(job);
    fill(
      this.head,
      h("header.job-head", h("h2", job.model, h("small", `by ${job.recipe}`)), status(job.status)),
      labels(job),
      this.line,
      this.bar,
      wrong && h("p.problem", wrong),
      h("p.actions", this.#actions(job)),
    );
    if (ENDED.includes(job.status)) this.outcome.show(job);
    else this.outcome.hide();
  }

  /** @param {Wire.JobBody} job */
  #actions(job) {
    const say = (/** @type {string} */ text) => fill(this.said, text);
    const cancel = async () => {
      await this.api.change("DELETE", this.path);
    };
    const resume = async () => {
      await this.api.change("POST", `${this.path}/resume`);
      this.again();
    };
    return [
      !ENDED.includes(job.status) && act("Cancel", cancel, { say }),
      ["failed", "cancelled"].includes(job.status) && act("Resume", resume, { say }),
      job.recipe !== "weights" && h("a", { href: `#/train?again=${job.id}` }, "Again with these settings"),
    ];
  }
}

/** @param {Wire.JobBody} job */
function lineOf({ status: now, recipe, position, epoch, epochs, started_at: started, finished_at: finished }) {
  if (now === "queued") return position && position > 1 ? `Number ${position} in the queue` : "Next to start";
  if (now === "running" && recipe === "weights") return "The file is being read";
  if (now === "running" && !epoch) return "It begins; how long it takes is told from its first steps on";
  if (now === "running") return `Epoch ${epoch + 1} of ${epochs} begins`;
  const seconds = started && finished && (Date.parse(finished) - Date.parse(started)) / 1000;
  const took = seconds ? ` after ${duration(seconds)}` : "";
  if (recipe === "weights") return `Weights from elsewhere, ended ${when(finished)}${took}`;
  return `${plural(epoch, "epoch")}${epochs ? ` of ${epochs}` : ""}, ended ${when(finished)}${took}`;
}

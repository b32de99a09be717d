// Train: what to run, the job as it goes, and the jobs there are.

import { $, fill, h, loading, note, trouble } from "./dom.js";
import { RunForm } from "./form.js";
import { JobPanel, status } from "./job.js";
import { duration, percent, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Wish } from "./form.js" */

const POLL = 4000;

export class TrainView {
  #timer = 0;
  #listed = ""; // what the list of jobs shows

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.form = new RunForm(api, $("run", HTMLFormElement));
    this.panel = new JobPanel(api, $("job"), () => this.#list());
    api.addEventListener("back", () => {
      if (!$("train").hidden) this.#refresh(null);
    });
  }

  /**
   * @param {string[]} words the id of a job, and whether its report is shown
   * @param {URLSearchParams} query a model to train, and whether on its corrections
   */
  async show([id, part], query) {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (!document.hidden) this.#list();
    }, POLL);
    this.panel.watch(id ?? null, part === "report");
    const [model, dataset] = [query.get("model"), query.get("dataset")];
    const wish = { model, dataset, feedback: query.has("feedback") };
    const again = query.get("again");
    await this.#refresh(model || dataset ? wish : null);
    if (again) await this.form.repeat(again);
  }

  leave() {
    clearInterval(this.#timer);
  }

  /** @param {Wish | null} wish */
  async #refresh(wish) {
    await Promise.all([this.#list(), this.form.load(wish)]);
  }

  async #list() {
    const host = $("jobs");
    if (!host.childElementCount) fill(host, loading("Reading the list of jobs"));
    try {
      /** @type {Wire.JobPage} */
      const { jobs } = await this.api.get("train?limit=20");
      this.#show(host, jobs);
    } catch (error) {
      if (host.querySelector(".jobs")) return;
      this.#listed = "";
      fill(
        host,
        trouble(error, () => this.#list()),
      );
    }
  }

  /**
   * @param {HTMLElement} host
   * @param {Wire.JobBody[]} jobs
   */
  #show(host, jobs) {
    const now = JSON.stringify([jobs, this.panel.id]);
    if (now === this.#listed) return;
    this.#listed = now;
    if (!jobs.length) {
      fill(
        host,
        note(
          "empty",
          "No jobs yet",
          "Start one: softmax-mnist takes seconds, the others minutes. Or bring your own pictures under Data.",
        ),
      );
      return;
    }
    const focused = host.contains(document.activeElement) && document.activeElement?.getAttribute("href");
    fill(
      host,
      h(
        "ul.jobs",
        { role: "list" },
        jobs.map((job) => row(job, job.id === this.panel.id)),
      ),
    );
    if (focused) host.querySelector(/** @type {"a"} */ (`[href="${focused}"]`))?.focus();
  }
}

/**
 * @param {Wire.JobBody} job
 * @param {boolean} shown
 */
function row(job, shown) {
  return h(
    "li",
    h(
      "a",
      { href: `#/train/${job.id}`, "aria-current": shown && "true" },
      h("span.job-name", job.model, h("small", `by ${job.recipe}`)),
      h("span.fine", progress(job)),
      h("span.fine", when(job.created_at)),
      status(job.status),
    ),
  );
}

/** @param {Wire.JobBody} job */
function progress({ status: now, position, epoch, epochs, best, eta_seconds: left }) {
  if (now === "queued") return `number ${position} in the queue`;
  const parts = [
    `${epoch}/${epochs ?? "?"} epochs`,
    best && `best ${percent(best.accuracy)}`,
    left && `about ${duration(left)} left`,
  ];
  return parts.filter(Boolean).join(", ");
}

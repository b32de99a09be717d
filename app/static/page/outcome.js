// What came out of a job: the version and whether it serves, what corrections changed, files.

import { act, fill, h } from "./dom.js";
import { needsKey, save, urlOf } from "./files.js";
import { objectionsTo, rollBack, serve } from "./serving.js";
import { bytes, capital, count, percent, plural, sentences } from "./text.js";
import { plain } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

export class Outcome {
  #shown = 0; // what was asked for before is not shown any more

  /**
   * @param {Api} api
   * @param {(text: string) => void} say
   * @param {() => void} onFiles called when they are known
   */
  constructor(api, say, onFiles) {
    this.api = api;
    this.say = say;
    this.onFiles = onFiles;
    /** @type {Wire.ArtifactBody[]} */
    this.files = [];
    this.closed = false; // whether they are given only to who sends a key
    this.element = h("div.stack");
  }

  hide() {
    this.#shown += 1;
    this.files = [];
    this.element.replaceChildren();
  }

  /** @param {Wire.JobBody} job */
  async show(job) {
    const mine = ++this.#shown;
    /** @type {[HTMLElement | null, Wire.ArtifactBody[]]} */
    const [version, files] = await Promise.all([
      this.#version(job),
      this.api.get(`train/${encodeURIComponent(job.id)}/artifacts`).catch(() => []), // cleared away
    ]);
    const first = files[0];
    const closed =
      first !== undefined && (await needsKey(this.api, pathOf(job.id, first.name)).catch(() => false));
    if (mine !== this.#shown) return;
    this.closed = closed;
    fill(this.element, version, corrections(job), this.#pictures(job.id, files));
    this.files = files;
    this.onFiles();
  }

  /** @param {Wire.JobBody} job */
  async #version(job) {
    if (job.version === null) return null;
    /** @type {Wire.VersionBody[]} */
    const versions = await this.api.get(`models/${encodeURIComponent(job.model)}/versions`).catch(() => []);
    const version = versions.find((each) => each.version === job.version);
    const serving = versions.find(({ aliases }) => aliases.includes("production"));
    const serves = version !== undefined && version === serving;
    const against = version && serving ? await objectionsTo(this.api, job.model, serving, version) : [];
    const state = !version
      ? "It has been deleted since."
      : serves
        ? h("b", "It is served now.")
        : "It is not served.";
    return h(
      "div.sheet.outcome",
      h("h2", `Version ${job.version}`),
      h(
        "p",
        typeof version?.accuracy === "number" && `${percent(version.accuracy)} on the test set. `,
        state,
        job.decision && ` ${sentences(plain(job.decision.reason))}`,
      ),
      against.length > 0 &&
        h(
          "ul.notes",
          { role: "list" },
          against.map((text) => h("li", text)),
        ),
      h("p.actions", version && this.#actions(job, version, serves, versions.length, !against.length)),
    );
  }

  /**
   * @param {Wire.JobBody} job
   * @param {Wire.VersionBody} made
   * @param {boolean} serves
   * @param {number} versions
   * @param {boolean} better nothing speaks against serving it
   */
  #actions(job, { version }, serves, versions, better) {
    const name = encodeURIComponent(job.model);
    const promote = async () => {
      if (await serve(this.api, job.model, version)) await this.show(job);
    };
    const back = async () => {
      if (await rollBack(this.api, job.model)) await this.show(job);
    };
    const kind = better ? "strong" : "";
    return [
      !serves && act(`Serve version ${version}${better ? "" : " …"}`, promote, { say: this.say, kind }),
      serves && versions > 1 && act("Roll back", back, { say: this.say }),
      h("a", { href: `#/models/${name}` }, "See the model"),
      h("a", { href: `#/try?model=${name}@${version}` }, "Try it"),
    ];
  }

  /**
   * @param {string} id
   * @param {Wire.ArtifactBody[]} files
   */
  #pictures(id, files) {
    if (!files.length) return null;
    const images = files.filter(({ name }) => name.endsWith(".png"));
    const others = files.filter(({ name }) => !name.endsWith(".png"));
    return h(
      "div.sheet",
      h("h2", "Files of the run"),
      h(
        "div.pictures",
        images.map(({ name }) => this.#picture(id, name)),
      ),
      h(
        "ul.files",
        { role: "list" },
        others.map(({ name, bytes: size }) => h("li", this.file(id, name), h("small", bytes(size)))),
      ),
    );
  }

  /**
   * @param {string} id
   * @param {string} name
   */
  #picture(id, name) {
    const title = capital(name.replace(/\.\w+$/, "").replaceAll("-", " "));
    const path = pathOf(id, name);
    const caption = h("figcaption", title);
    if (!this.closed) {
      return h("figure", h("a", { href: path }, h("img", { src: path, alt: title, loading: "lazy" })), caption);
    }
    const image = h("img", { alt: title });
    const show = async () => {
      image.src = await urlOf(this.api, path);
      image.onload = () => URL.revokeObjectURL(image.src);
    };
    show().catch(() => {}); // its title stays
    return h("figure", image, caption);
  }

  /**
   * A link to a file, or what saves it.
   * @param {string} id
   * @param {string} name
   * @param {string} [text]
   */
  file(id, name, text = name) {
    const path = pathOf(id, name);
    if (!this.closed) return h("a", { href: path }, text);
    return act(text, () => save(this.api, path, name), { say: this.say, kind: "quiet" });
  }
}

/** @param {Wire.JobBody} job */
function corrections({ feedback }) {
  if (!feedback?.used) return null;
  const { used, right_before: before, right_after: after } = feedback;
  return h(
    "div.sheet",
    h("h2", "What the corrections changed"),
    h(
      "p",
      `${plural(used, "corrected picture")} joined the training. `,
      before !== null && `${count(before)} of them ${before === 1 ? "was" : "were"} right before; `,
      `${count(after)} of ${count(used)} ${after === 1 ? "is" : "are"} right now.`,
    ),
  );
}

/**
 * @param {string} id of a job
 * @param {string} name of its file
 */
const pathOf = (id, name) => `train/${encodeURIComponent(id)}/artifacts/${encodeURIComponent(name)}`;

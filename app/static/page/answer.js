// What one model says of the picture: label, bars, time, what it saw and what counted.

import { Away, request } from "./api.js";
import { h, percent } from "./dom.js";

export class Answer {
  #live = null; // the picture to ask about next
  #full = null; // the picture to have explained after that
  #running = null;
  #abort = null;
  #floor = 0; // answers to older pictures are not shown any more
  #latest = 0; // the picture to have explained, by number
  result = null;

  constructor(model) {
    this.model = model;
    this.label = h("strong.label", "–");
    this.sure = h("span.sure");
    this.time = h("span.time");
    this.version = h("span.version", `version ${model.version}`);
    this.problem = h("p.problem", { hidden: true });
    this.bars = model.classes.map((name) => {
      const bar = h("i");
      const value = h("span.share", "–");
      const row = h("li", h("span.class", name), h("span.track", { "aria-hidden": "true" }, bar), value);
      return { name, row, bar, value };
    });
    this.seen = h("img", { alt: "What the model saw", width: 28, height: 28 });
    this.saliency = h("img", { alt: "How much each pixel counted", width: 28, height: 28 });
    this.insight = h(
      "div.insight",
      h("figure", this.seen, h("figcaption", "What it saw")),
      h("figure", this.saliency, h("figcaption", "What counted")),
    );
    this.element = h(
      `article.answer${model.classes.some((name) => name.length > 3) ? ".words" : ""}`,
      { "data-model": model.name, "aria-label": `Answer of ${model.name}` },
      h("header", h("h2", model.name), this.version, this.time),
      h(
        "div.answer-body",
        h("p.verdict", this.label, this.sure),
        this.problem,
        h(
          "ul.bars",
          { role: "list" },
          this.bars.map((bar) => bar.row),
        ),
        this.insight,
      ),
    );
    this.reset(0);
  }

  path(explain = false) {
    return `/predict?model=${encodeURIComponent(this.model.name)}&preprocess=auto${explain ? "&explain=true" : ""}`;
  }

  /** One request at a time; of pictures that come meanwhile the last one is asked about. */
  ask(picture, explain = false) {
    if (explain) {
      this.#full = picture;
      this.#latest = picture.number;
    } else if (picture.number > this.#latest) {
      [this.#live, this.#full] = [picture, null];
      this.#abort?.abort(); // an explanation must not keep the bars waiting
    } // else the browser was so long about encoding it that its explanation is on the way
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #run() {
    while (this.#live || this.#full) {
      const explain = !this.#live;
      const picture = this.#live ?? this.#full;
      explain ? (this.#full = null) : (this.#live = null);
      await this.#answer(picture, explain);
    }
  }

  /** Nothing to answer; what comes of pictures before `number` is dropped. */
  reset(number) {
    this.#floor = number;
    this.#live = this.#full = null;
    this.result = null;
    this.element.classList.add("waiting");
    this.label.textContent = "–";
    this.sure.textContent = this.time.textContent = "";
    this.problem.hidden = true;
    this.insight.dataset.state = "none";
    for (const bar of this.bars) this.#set(bar, 0, "–");
  }

  async #answer(picture, explain) {
    const headers = { "content-type": picture.blob.type };
    if (explain) this.#abort = new AbortController();
    const begun = performance.now();
    try {
      const options = {
        method: "POST",
        headers,
        body: picture.blob,
        signal: explain ? this.#abort.signal : undefined,
      };
      const result = await (await request(this.path(explain), options)).json();
      if (picture.number < this.#floor) return;
      this.#show(result, explain ? null : performance.now() - begun);
      this.result = { ...result, number: picture.number };
    } catch (error) {
      if (error.name === "AbortError" || picture.number < this.#floor) return;
      this.#fail(error);
    } finally {
      this.#abort = null;
    }
    this.element.dataset.number = picture.number;
  }

  #show(result, milliseconds) {
    this.element.classList.remove("waiting");
    this.problem.hidden = true;
    this.label.textContent = result.label;
    this.sure.textContent = percent(result.probability, 1);
    this.version.textContent = `version ${result.version}`;
    if (milliseconds !== null) this.time.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    for (const bar of this.bars) {
      const share = result.probabilities[bar.name] ?? 0;
      this.#set(bar, share, share > 0 && share < 0.001 ? "< 0.1 %" : percent(share, 1));
      bar.row.classList.toggle("best", bar.name === result.label);
    }
    if (result.seen) {
      this.seen.src = result.seen;
      this.saliency.src = result.saliency;
      this.insight.dataset.state = "new";
    } else if (this.insight.dataset.state === "new") this.insight.dataset.state = "old";
  }

  #set(bar, share, text) {
    bar.bar.style.transform = `scaleX(${share})`;
    bar.value.textContent = text;
    if (!share) bar.row.classList.remove("best");
  }

  #fail(error) {
    if (error instanceof Away) return; // the banner says so; what was answered stays
    this.result = null;
    this.element.classList.add("waiting");
    this.label.textContent = "?";
    this.sure.textContent = "";
    this.insight.dataset.state = "none";
    for (const bar of this.bars) this.#set(bar, 0, "–");
    this.problem.textContent = `${error.title}. ${error.hint ?? error.detail ?? ""}`;
    this.problem.hidden = false;
  }
}

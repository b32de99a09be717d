// Models: what is served, every version, its mistakes, and two versions side by side.

import { aliasesOf, endOf } from "./aliases.js";
import { comparison } from "./compare.js";
import { $, act, fill, h, loading, note, trouble } from "./dom.js";
import { layersOf } from "./layers.js";
import { mistakesOf } from "./mistakes.js";
import { modelPath, pageOf, pageOfDataset } from "./paths.js";
import { copyForm, renameForm } from "./renaming.js";
import { rollBack } from "./serving.js";
import { count, percent, plural, sentences } from "./text.js";
import { facts, history, versionCard } from "./versions.js";
import { BringWeights } from "./weights.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Doing } from "./versions.js" */

const PRODUCTION = "production";

export class ModelsView {
  /** @type {string[]} */
  #words = [];
  #shown = 0; // what was asked for before is not shown any more

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.weights = new BringWeights(api, (model, version) => this.#made(model, version));
    api.addEventListener("back", () => {
      if (!$("models").hidden) this.show(this.#words);
    });
  }

  /**
   * #/models, #/models/NAME, #/models/NAME/VERSION.
   * @param {string[]} words
   */
  async show(words) {
    this.#words = words;
    const mine = ++this.#shown;
    const [name, number] = words;
    const host = $("shelf");
    $("models-title").textContent = name ?? "Models";
    if (host.dataset.of !== words.join("/")) fill(host, loading("Reading the list of models"));
    host.dataset.of = words.join("/");
    /** @type {(HTMLElement | null)[]} */
    let page;
    try {
      page = name ? await this.#model(name, Number(number) || null) : await this.#shelf();
    } catch (error) {
      page = [name ? back() : null, trouble(error, () => this.show(words))];
    }
    if (mine === this.#shown) fill(host, page);
  }

  /**
   * Weights have become a version, which is shown unless another view is.
   * @param {string} model
   * @param {number} version
   */
  #made(model, version) {
    if ($("models").hidden) return;
    const there = pageOf(model, version);
    if (location.hash === there) this.show(this.#words);
    else location.hash = there;
  }

  async #shelf() {
    /** @type {Wire.ModelSummary[]} */
    const models = await this.api.get("models");
    const cards = await Promise.all(models.map((model) => this.#card(model)));
    return [...(await this.#degraded()), h("ul.shelf", { role: "list" }, cards), this.weights.of("")];
  }

  /** Notes about versions that cannot be loaded. */
  async #degraded() {
    /** @type {Wire.Readiness} */
    const { degraded } = await this.api.get("readyz").catch(() => ({ degraded: [] }));
    return degraded.map(({ name, version, serving, reason }) => {
      const shipped = serving === 0 || serving === version;
      const instead =
        serving === null
          ? "The model does not answer"
          : `${shipped ? "The shipped one" : `Version ${serving}`} answers instead`;
      return note("error", `Version ${version} of ${name} cannot be loaded`, sentences(instead, reason));
    });
  }

  /** @param {Wire.ModelSummary} model */
  async #card(model) {
    /** @type {[Wire.Card, Wire.VersionBody[]]} */
    const [card, versions] = await Promise.all([
      this.api.get(modelPath(model.name)),
      this.api.get(modelPath(model.name, "/versions")),
    ]);
    const { test } = card.metrics;
    const before = [
      h("h2", h("a", { href: pageOf(model.name) }, model.name)),
      model.default && h("span.tag", "default"),
    ];
    return h(
      "li.sheet.model-card",
      h("header", before),
      h(
        "p.figure",
        percent(model.accuracy),
        h(
          "small",
          test
            ? `of ${count(test.images)} test ${card.input.kind === "table" ? "rows" : "images"}`
            : "not tested",
        ),
      ),
      facts(card, [
        ["Data", model.dataset ? h("a", { href: pageOfDataset(model.dataset) }, model.dataset) : "–"],
        ["Layers", model.architecture],
      ]),
      h("p.fine", `Version ${model.version} is served; ${plural(versions.length, "version")} kept`),
    );
  }

  /**
   * @param {string} name
   * @param {number | null} number
   */
  async #model(name, number) {
    /** @type {[Wire.VersionBody[], Wire.ModelSummary[], Wire.AuditBody[]]} */
    const [versions, models, audit] = await Promise.all([
      this.api.get(modelPath(name, "/versions")),
      this.api.get("models"),
      this.api.get(modelPath(name, "/audit")).catch(() => []),
    ]);
    const production = versions.find(({ aliases }) => aliases.includes(PRODUCTION));
    const chosen = versions.find(({ version }) => version === number) ?? production ?? versions[0];
    if (!chosen) return [back()];
    const said = h("p.problem", { role: "alert" });
    const doing = {
      api: this.api,
      say: (/** @type {string} */ text) => fill(said, text),
      anew: () => this.show(this.#words),
    };
    return [
      back(),
      await this.#versions(doing, name, versions, chosen, production),
      said,
      aliasesOf(doing, name, versions),
      this.weights.of(name),
      layersOf(this.api, name, chosen.version),
      mistakesOf(this.api, name, chosen.version),
      comparison(this.api, name, versions, models, chosen),
      history(audit),
      h(
        "section.whole",
        { "aria-labelledby": "whole-title" },
        h("h2", { id: "whole-title" }, "The model"),
        copyForm(doing, name, chosen.version),
        renameForm(doing, name),
        endOf(doing, name, versions.length),
      ),
    ];
  }

  /**
   * @param {Doing} doing
   * @param {string} name
   * @param {Wire.VersionBody[]} versions
   * @param {Wire.VersionBody} chosen
   * @param {Wire.VersionBody | undefined} production
   */
  async #versions(doing, name, versions, chosen, production) {
    const undo = async () => {
      if (await rollBack(this.api, name)) await doing.anew();
    };
    /** @type {(Wire.Card | null)[]} */
    const cards = await Promise.all(
      versions.map(({ version }) => this.api.get(modelPath(`${name}@${version}`)).catch(() => null)),
    );
    return h(
      "section",
      { "aria-labelledby": "versions-title" },
      h(
        "div.line",
        h("h2", { id: "versions-title" }, "Versions"),
        h(
          "p.actions",
          production && versions.length > 1 && act("Roll back", undo, { say: doing.say }),
          h("a", { href: `#/train?model=${encodeURIComponent(name)}` }, "Train another"),
        ),
      ),
      h(
        "ul.versions",
        { role: "list" },
        versions.map((version, index) =>
          versionCard(doing, name, version, cards[index] ?? null, version === chosen),
        ),
      ),
    );
  }
}

const back = () => h("p", h("a", { href: "#/models" }, "← All models"));

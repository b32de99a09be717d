// Two versions, or two models, on the same test images.

import { fill, h, loading, note } from "./dom.js";
import { gallery, withoutTestSet } from "./mistakes.js";
import { modelPath } from "./paths.js";
import { cells, count, percent } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

/**
 * Lets another version or model be chosen, and shows how the two differ.
 * @param {Api} api
 * @param {string} name
 * @param {Wire.VersionBody[]} versions
 * @param {Wire.ModelSummary[]} models
 * @param {Wire.VersionBody} chosen
 */
export function comparison(api, name, versions, models, chosen) {
  const others = choices(name, versions, models, chosen);
  const result = h("div", { "aria-live": "polite" });
  const other = h(
    "select",
    { id: "other", onchange: () => result.replaceChildren() },
    others.map(({ value, text }) => h("option", { value }, text)),
  );
  const compare = async () => {
    const [otherName, b = ""] = other.value.split("@");
    const search = new URLSearchParams({
      a: String(chosen.version),
      b,
      ...(otherName && { other: otherName }),
    });
    fill(result, loading("Both are answering every test image"));
    try {
      fill(result, verdict(await api.get(modelPath(name, `/compare?${search}`))));
    } catch (error) {
      fill(result, withoutTestSet(error, compare));
    }
  };
  return h(
    "section",
    { "aria-labelledby": "compare-title" },
    h("h2", { id: "compare-title" }, `Compare version ${chosen.version}`),
    others.length
      ? form(other, compare)
      : note("empty", "Nothing to compare with", "Train another version first."),
    result,
  );
}

/**
 * @param {string} name
 * @param {Wire.VersionBody[]} versions
 * @param {Wire.ModelSummary[]} models
 * @param {Wire.VersionBody} chosen
 */
function choices(name, versions, models, chosen) {
  const dataset = models.find((model) => model.name === name)?.dataset;
  const same = models.filter((model) => model.name !== name && model.dataset === dataset);
  return [
    ...versions
      .filter((version) => version !== chosen)
      .map(({ version }) => ({ value: `@${version}`, text: `version ${version}` })),
    ...same.map((model) => ({
      value: `${model.name}@${model.version}`,
      text: `${model.name}, version ${model.version}`,
    })),
  ];
}

/**
 * @param {HTMLSelectElement} other
 * @param {() => Promise<void>} compare
 */
function form(other, compare) {
  const onsubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    compare();
  };
  const button = h("button", { type: "submit" }, "Compare");
  return h("form.line.compare", { onsubmit }, h("label", { for: "other" }, "with"), other, button);
}

/** @param {Wire.ComparisonBody} found */
export function verdict({ a, b, images, agreement, only_a: onlyA, only_b: onlyB, p, differ }) {
  const chance = p < 0.05 ? "too small for chance alone" : "chance alone could do that";
  const shown = p < 0.0001 ? "< 0.0001" : `= ${p.toFixed(4)}`;
  const same = a.model === b.model;
  return [
    h("div.versus", side(a, same, onlyA), side(b, same, onlyB)),
    h("p", `They agree on ${percent(agreement)} of ${count(images)} answers. McNemar’s p ${shown}: ${chance}.`),
    differ.length > 0 &&
      gallery(
        "Where they differ",
        differ.map((each) => difference(each, a, b)),
      ),
  ];
}

/**
 * @param {Wire.SideBody} version
 * @param {boolean} same of one model
 * @param {number} alone images that only it gets right
 */
function side({ model, version, accuracy }, same, alone) {
  const title = same ? `version ${version}` : `${model} ${version}`;
  return h(
    "div",
    h("p.figure", percent(accuracy), h("small", title)),
    h("p.fine", `${count(alone)} that only it gets right`),
  );
}

/**
 * @param {Wire.DifferenceBody} each
 * @param {Wire.SideBody} a
 * @param {Wire.SideBody} b
 */
function difference(each, a, b) {
  const short = (/** @type {Wire.SideBody} */ { model, version }) =>
    a.model === b.model ? `v${version}` : model;
  const line = (/** @type {string} */ name, /** @type {string} */ label, /** @type {number} */ probability) =>
    h("p.fine", `${name}: `, h(label === each.true ? "b.good" : "b.bad", label), ` ${percent(probability, 0)}`);
  const alt = `Test image ${each.index}: ${each.true}`;
  return h(
    "li",
    each.row && h("p.fine", cells(each.row)),
    each.image && h("img.pixels", { src: each.image, alt, width: 28, height: 28, loading: "lazy" }),
    h("p", "true: ", h("b", each.true)),
    line(short(a), each.a, each.probability_a),
    line(short(b), each.b, each.probability_b),
  );
}

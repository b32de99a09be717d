// A data set read again with other options: size, splits, classes left out, renamed or merged.

import { h } from "./dom.js";
import { dataPath, pageOfData } from "./paths.js";
import { allValid, field, markWrong, select } from "./setting.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Control } from "./setting.js" */
/** @typedef {{ label: string, keep: HTMLInputElement, name: HTMLInputElement }} ClassRow */

/** @type {Record<string, string>} */
const RESIZE = { auto: "by the pictures", pad: "keep their shape, pad the rest", stretch: "stretch" };

export class OptionsForm {
  /**
   * @param {Api} api
   * @param {Wire.DatasetBody} set
   * @param {Wire.ImageProfile} profile
   */
  constructor(api, set, profile) {
    this.api = api;
    this.set = set;
    const { options, given_splits: given, height } = profile;
    this.size = number("size", { min: 8, max: 224, placeholder: `auto (${height})` });
    this.size.value = String(options.size ?? "");
    this.resize = select("option-resize", "resize", Object.keys(RESIZE));
    for (const option of this.resize.options) option.text = RESIZE[option.value] ?? option.value;
    this.resize.value = options.resize;
    this.test = share("test_share", options.test_share, given.includes("test"));
    this.validation = share("validation_share", options.validation_share, given.includes("validation"));
    this.seed = number("seed", { min: 0, max: 2 ** 32 - 1, required: true, value: options.seed });
    this.groups = h("input", {
      id: "option-group_pattern",
      name: "group_pattern",
      spellcheck: "false",
      maxlength: 200,
    });
    this.groups.value = options.group_pattern ?? "";
    this.rows = labelsOf(profile).map((label) => classRow(label, options));
    this.said = h("p.problem", { role: "alert" });
    this.button = h("button.strong", { type: "submit" }, "Make a new version");
    this.element = this.#form(given);
  }

  /** @param {string[]} given splits */
  #form(given) {
    const of = (/** @type {string} */ split, /** @type {string} */ otherwise) =>
      given.includes(split) ? "The file has this split" : otherwise;
    const form = h(
      "form",
      { "aria-label": "Options", novalidate: true },
      h(
        "div.fields",
        field("option-size", "Side in pixels", this.size, "8 to 224."),
        field("option-resize", "Pictures that are not square", this.resize, "Nothing is cropped."),
        field("option-test_share", "For the test, %", this.test, of("test", "Of all pictures.")),
        field(
          "option-validation_share",
          "For validation, %",
          this.validation,
          of("validation", "Of the others."),
        ),
        field("option-seed", "Random seed", this.seed, "Another one draws other splits."),
      ),
      field(
        "option-group_pattern",
        "What belongs together",
        this.groups,
        "A regular expression on the paths: pictures with the same first group stay in one split, such as ([^/]+)_\\d+\\.jpg",
      ),
      h(
        "fieldset.classes",
        h("legend", "Classes: uncheck one to leave it out; equal names make one class"),
        this.rows.map(({ label, keep, name }) => h("div", h("label", keep, h("span", label)), name)),
      ),
      this.said,
      h("p.actions", this.button),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    return h(
      "section.sheet",
      { "aria-labelledby": "options-title" },
      h("h2", { id: "options-title" }, "Other options"),
      h("details", h("summary", "Size, splits, classes"), form),
    );
  }

  /** @returns {Control[]} */
  get #controls() {
    return [this.size, this.resize, this.test, this.validation, this.seed, this.groups];
  }

  async #send() {
    this.said.textContent = "";
    if (!allValid(this.#controls)) return;
    this.button.disabled = true;
    try {
      const body = { from: this.set.version, options: this.options };
      /** @type {Wire.DatasetBody} */
      const made = await this.api.change("POST", dataPath(this.set.name, "/versions"), body);
      const there = pageOfData(made.name, made.version);
      if (made.version === this.set.version) this.said.textContent = "These are the options of this version.";
      else location.hash = there;
    } catch (error) {
      this.said.textContent = markWrong(this.#controls, error);
    } finally {
      this.button.disabled = false;
    }
  }

  /** @returns {Wire.Options} */
  get options() {
    const renamed = this.rows.filter(
      ({ label, keep, name }) => keep.checked && name.value.trim() && name.value.trim() !== label,
    );
    return {
      size: this.size.value ? Number(this.size.value) : null,
      resize: /** @type {Wire.Options["resize"]} */ (this.resize.value),
      test_share: Number(this.test.value) / 100,
      validation_share: Number(this.validation.value) / 100,
      seed: Number(this.seed.value),
      drop: this.rows.filter(({ keep }) => !keep.checked).map(({ label }) => label),
      rename: Object.fromEntries(renamed.map(({ label, name }) => [label, name.value.trim()])),
      group_pattern: this.groups.value || null,
    };
  }
}

/**
 * The classes as the file has them: those of this version, less new names, with those that were left out.
 * @param {Wire.ImageProfile} profile
 */
function labelsOf({ classes, options: { drop, rename } }) {
  const made = new Set(Object.values(rename));
  return [...new Set([...classes.filter((label) => !made.has(label)), ...Object.keys(rename), ...drop])].sort();
}

/**
 * @param {string} label
 * @param {Wire.Options} options
 * @returns {ClassRow}
 */
function classRow(label, { drop, rename }) {
  const keep = h("input", { type: "checkbox", "aria-label": `Keep ${label}` });
  keep.checked = !drop.includes(label);
  const name = h("input", {
    type: "text",
    "aria-label": `Name of ${label}`,
    maxlength: 100,
    value: rename[label] ?? label,
  });
  name.disabled = !keep.checked;
  keep.onchange = () => {
    name.disabled = !keep.checked;
  };
  return { label, keep, name };
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} attributes
 */
export const number = (name, attributes) =>
  h("input", { id: `option-${name}`, name, type: "number", step: 1, inputmode: "decimal", ...attributes });

/**
 * @param {string} name
 * @param {number} value 0..1
 * @param {boolean} given nothing to choose then
 */
export const share = (name, value, given) =>
  number(name, {
    min: 0.1,
    max: 89.9,
    step: 0.1,
    required: true,
    value: +(100 * value).toFixed(3),
    disabled: given,
  });

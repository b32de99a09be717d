// One setting of a run: its name, its control, what it means, and what is wrong with it.

import { Problem } from "./api.js";
import { $, h } from "./dom.js";
import { capital, count, sentences } from "./text.js";
import { told, wrong } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */

/** @type {Record<string, string>} */
const NAMES = {
  lr: "Learning rate",
  dataset: "Data set",
  augment: "Augmentation",
  ema_decay: "Weight averaging",
  seed: "Random seed",
};

/** @type {Record<string, string>} what the page says instead of the service */
const ABOUT = {
  epochs: "How often each image is seen",
  lr: "Its peak, with a schedule",
  batch_size: "Images in a step",
  optimizer: "How a step moves the weights",
  schedule: "How the learning rate changes, step by step",
  augment: "How training images are varied, anew in each epoch",
  dataset: "Images to train on",
  loss: "What training minimises",
  momentum: "Share of the last step that is kept",
  weight_decay: "How strongly weights are pulled towards 0",
  label_smoothing: "Share of each label that is spread over all classes",
  synthetic_images: "Simulated pictures of digits to train on as well",
  ema_decay: "Decay per step of the average that is kept instead of the last weights; 0 keeps the last",
  precision: "Of the products; bfloat16 is coarser, and faster on some machines",
  seed: "The same seed gives the same run",
  validation_images: "Training images held out; 0 trains on all of them",
};

/** @type {Record<string, string>} what a choice means; said only where it is offered */
const CHOICES = {
  brier: "brier is the squared distance of the probabilities to the label",
  "double-softmax": "double-softmax feeds probabilities into the cross-entropy, as one of the sources does",
  "from-scratch": "from-scratch writes gradients and SGD out on tensors",
};

/**
 * One labelled control with its explanation and a place for what is wrong with it.
 * @param {string} id
 * @param {string} label
 * @param {Control} control
 * @param {string | Node} about
 */
export function field(id, label, control, about) {
  control.setAttribute("aria-describedby", `${id}-about ${id}-wrong`);
  return h(
    "div.field",
    { "data-field": id },
    h("label", { for: id }, label),
    control,
    h("p.fine", { id: `${id}-about` }, about),
    h("p.problem", { id: `${id}-wrong` }),
  );
}

/** @param {Wire.FieldBody} row */
export function setting(row) {
  const id = `set-${row.name}`;
  const control = row.choices?.length ? select(id, row.name, row.choices) : input(id, row);
  control.value = String(row.default ?? "");
  control.dataset.usual = control.value;
  control.dataset.kind = row.type === "string" ? "string" : "number";
  return field(id, NAMES[row.name] ?? capital(row.name).replaceAll("_", " "), control, explanation(row));
}

/**
 * @param {string} id
 * @param {string} name
 * @param {string[]} choices
 */
export function select(id, name, choices) {
  return h(
    "select",
    { id, name },
    choices.map((choice) => h("option", { value: choice }, choice)),
  );
}

/**
 * @param {string} id
 * @param {Wire.FieldBody} row
 */
function input(id, { name, type, default: usual, minimum, maximum, exclusive }) {
  const number = type !== "string";
  const control = h("input", {
    id,
    name,
    type: number ? "number" : "text",
    step: type === "integer" ? 1 : "any",
    min: minimum,
    max: maximum,
    required: number && usual !== null,
    placeholder: usual === null ? "by the pictures" : null,
    inputmode: number ? "decimal" : null,
  });
  control.dataset.exclusive = exclusive.join(" ");
  return control;
}

/** @param {Wire.FieldBody} row */
function explanation({ name, choices, description, minimum, maximum, exclusive }) {
  const offered = (choices ?? []).map((choice) => CHOICES[choice]).filter(Boolean);
  const bound = (/** @type {"minimum" | "maximum"} */ end, /** @type {string} */ word) =>
    exclusive.includes(end) ? `${word} ` : "";
  const range =
    minimum === null || maximum === null
      ? ""
      : `${bound("minimum", "above")}${count(minimum)} to ${bound("maximum", "below")}${count(maximum)}`;
  return sentences([ABOUT[name] ?? description, ...offered, range].filter(Boolean).join("; "));
}

/**
 * What the request carries for a control whose value was changed.
 * @param {Control} control
 */
export function valueOf({ value, dataset }) {
  const number = dataset.kind === "number" && value.trim() !== "";
  return number && !Number.isNaN(Number(value)) ? Number(value) : value;
}

/**
 * What the browser finds wrong with a control, in words; "" where nothing is.
 * @param {Control} control
 */
export function invalid(control) {
  const { validity, value, dataset } = control;
  const { min, max } = control instanceof HTMLInputElement ? control : { min: "", max: "" };
  const excluded = (/** @type {string} */ end, /** @type {string} */ bound) =>
    dataset.exclusive?.includes(end) && value !== "" && Number(value) === Number(bound);
  if (validity.badInput) return "A number.";
  if (validity.valueMissing) return "It cannot be empty.";
  if (validity.patternMismatch) return "Small letters, digits and hyphens; a letter or digit first.";
  if (excluded("minimum", min)) return `More than ${count(Number(min))}.`;
  if (excluded("maximum", max)) return `Less than ${count(Number(max))}.`;
  if (validity.rangeUnderflow) return `At least ${count(Number(min))}.`;
  if (validity.rangeOverflow) return `At most ${count(Number(max))}.`;
  return validity.stepMismatch ? "A whole number." : "";
}

/**
 * Says at a control what is wrong with it.
 * @param {Control} control
 * @param {string} problem "": nothing
 */
export function mark(control, problem) {
  control.ariaInvalid = problem ? "true" : null;
  $(`${control.id}-wrong`).textContent = problem;
  if (problem) control.closest("details")?.setAttribute("open", "");
}

/**
 * Whether the browser finds nothing wrong; where it does, the first such control has the focus.
 * @param {Control[]} controls
 */
export function allValid(controls) {
  for (const control of controls) mark(control, invalid(control));
  const first = controls.find((control) => control.ariaInvalid);
  first?.focus();
  return !first;
}

/**
 * Each control says what the service found wrong with it; what belongs to none is returned.
 * @param {Control[]} controls
 * @param {unknown} error
 */
export function markWrong(controls, error) {
  const problems = error instanceof Problem ? error.errors : [];
  const nameIn = (/** @type {string} */ path) => path.split(".").at(-1) ?? "";
  const left = problems.filter(({ field: path, problem }) => {
    const control = controls.find((each) => each.name === nameIn(path));
    if (control) mark(control, wrong(problem));
    return !control;
  });
  controls.find((control) => control.ariaInvalid)?.focus();
  if (problems.length && !left.length) return "";
  const others = left.map(({ field: path, problem }) => `${nameIn(path)}: ${wrong(problem)}`);
  return others.length ? others.join(" ") : told(error);
}

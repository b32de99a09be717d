// What models answer, class by class and by how sure they are, beside what they answered on their test sets.

import { h } from "./dom.js";
import { pageOf } from "./paths.js";
import { driftOf, hourly } from "./drift.js";
import { count, percent, plural, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const BOUNDS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
const SURE = [
  "below 50 %",
  ...BOUNDS.slice(1).map((bound, index) => `${to(BOUNDS[index])} to ${to(bound)} %`),
  "above 99.9 %",
];

/** @param {number | undefined} share */
function to(share) {
  return Number(((share ?? 0) * 100).toFixed(1));
}

/** @type {Map<string, boolean>} */
const unfolded = new Map(); // what was opened or closed by hand, by version: it is drawn anew every second
const narrow = matchMedia("(max-width: 30rem)");

/**
 * @param {Api} api
 * @param {Wire.MixBody[]} models
 */
export function mixes(api, models) {
  if (!models.length) return [h("p.fine", "No model has answered yet.")];
  return [
    h(
      "ul.mixes",
      { role: "list" },
      models.map((model, index) => mix(api, model, !index || !narrow.matches)),
    ),
  ];
}

/**
 * @param {Api} api
 * @param {Wire.MixBody} found
 * @param {boolean} open unless something else was chosen
 */
function mix(api, found, open) {
  const { model, version, answers, recent, labels, expected_labels, confidence, expected_confidence } = found;
  const facts = [
    plural(answers, "answer"),
    `${count(recent)} since you look`,
    found.warned > 0 && `${count(found.warned)} with a warning`,
    found.failed > 0 && `${count(found.failed)} failed`,
  ];
  const sure = Object.fromEntries(SURE.map((name, index) => [name, confidence[index] ?? 0]));
  const expected =
    expected_confidence &&
    Object.fromEntries(SURE.map((name, index) => [name, expected_confidence[index] ?? 0]));
  return h(
    "li.mix",
    { "data-model": `${model}@${version}` },
    h(
      "header",
      h("h3", h("a", { href: pageOf(model, version) }, `${model}, version ${version}`)),
      found.serving && h("span.tag", { "data-alias": "production" }, "served"),
      found.drift?.since && h("span.tag.drifts", `drifts since ${when(found.drift.since)}`),
      h("span.fine", facts.filter(Boolean).join(", ")),
    ),
    folding(
      `${model}@${version}`,
      open,
      h("div.bars-side", bars("Classes", labels, expected_labels), bars("How sure", sure, expected)),
    ),
    expected_labels === null && h("p.fine", "Its card does not say what it answered on its test set."),
    driftOf(found.drift),
    hourly(api, model, version),
  );
}

/**
 * @param {string} version
 * @param {boolean} open
 * @param {HTMLElement} body
 */
function folding(version, open, body) {
  const element = h(
    "details",
    { open: unfolded.get(version) ?? open },
    h("summary", "Classes and confidence"),
    body,
  );
  element.ontoggle = () => element.isConnected && unfolded.set(version, element.open);
  return element;
}

/**
 * @param {string} title
 * @param {Record<string, number>} now shares
 * @param {Record<string, number> | null} expected on the test set
 */
function bars(title, now, expected) {
  const most = Math.max(...Object.values(now), ...Object.values(expected ?? {}), 0.001);
  const head = [title, "Now", expected && "Test set"].filter(Boolean);
  const rows = Object.entries(now).map(([name, share]) => {
    const there = expected?.[name];
    return h(
      "tr",
      h("th", { scope: "row" }, name),
      h("td", h("span.mix-bar", { "--share": share / most }), percent(share, 1)),
      expected && h("td", h("span.mix-bar.test", { "--share": (there ?? 0) / most }), percent(there, 1)),
    );
  });
  return h(
    "table.mix-bars",
    h(
      "thead",
      h(
        "tr",
        head.map((text) => h("th", { scope: "col" }, text)),
      ),
    ),
    h("tbody", rows),
  );
}

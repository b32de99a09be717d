// Whether what a model answers drifts away from its test set: now, and hour by hour.

import { fill, h, loading } from "./dom.js";
import { listTable } from "./list.js";
import { modelPath } from "./paths.js";
import { count, percent, plural, when } from "./text.js";
import { told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

/** @type {Map<string, HTMLElement>} by version: they stay as they are when the view is drawn anew */
const kept = new Map();

/** @param {Wire.DriftBody | null} found */
export function driftOf(found) {
  if (!found) return h("p.fine", "Drift: too few answers to compare yet (200 in a day).");
  const { images, hours, labels, confidence, against, since } = found;
  const beside = against === "test" ? "its test set" : "its first answers";
  return h(
    since ? "p.problem" : "p.fine",
    `Drift: stability index ${index(labels)} for classes, ${index(confidence)} for how sure it is: `,
    `${plural(images, "answer")} of the last ${hours === 1 ? "hour" : `${hours} hours`} against ${beside}.`,
  );
}

/** @param {Wire.IndexBody} found */
const index = ({ psi, limit }) => `${psi.toFixed(2)} (limit ${limit.toFixed(2)})`;

/**
 * @param {Api} api
 * @param {string} model
 * @param {number} version
 */
export function hourly(api, model, version) {
  const name = `${model}@${version}`;
  const before = kept.get(name);
  if (before) return before;
  const body = h("div.part");
  const details = h("details", h("summary", "Hour by hour"), body);
  const load = async () => {
    if (!details.open) return;
    fill(body, loading("Reading the hours"));
    try {
      /** @type {Wire.HistoryBody} */
      const { hours } = await api.get(modelPath(name, "/drift"));
      fill(
        body,
        hours.length ? table(name, hours) : h("p.fine", "Nothing yet: hours are written once a minute."),
      );
    } catch (error) {
      fill(body, h("p.problem", { role: "alert" }, told(error)));
    }
  };
  kept.set(name, details);
  details.addEventListener("toggle", load);
  return details;
}

/**
 * @param {string} name
 * @param {Wire.HourBody[]} hours
 */
function table(name, hours) {
  const head = ["Hour", "Answers", "With a warning", "Index of classes", "Index of confidence"];
  const rows = hours
    .toReversed()
    .map((hour) => [
      when(hour.at),
      count(hour.images),
      percent(hour.warned_share, 1),
      bar(hour.psi_labels),
      bar(hour.psi_confidence),
    ]);
  return listTable(`Hours of ${name}`, head, rows);
}

/** @param {Wire.IndexBody | null} found */
function bar(found) {
  if (!found) return h("span.fine", "too few");
  const { psi, limit } = found;
  const label = psi > limit ? "above the limit" : "below the limit";
  return h(
    "span",
    h("meter", { min: 0, max: 2 * limit, high: limit, optimum: 0, value: psi, "aria-label": label }),
    ` ${psi.toFixed(2)}`,
  );
}

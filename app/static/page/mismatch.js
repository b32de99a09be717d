// A run on another kind of data than the model has learned that gets the new version.

import { subjectOf } from "./subjects.js";

/** @import * as Wire from "./wire.d.ts" */

/**
 * What to know before such a run is started; "" where the data are of one kind.
 * @param {Wire.ModelSummary | undefined} model as it is served now
 * @param {string | null} dataset to train on; null where the recipe leaves no choice
 * @param {string} promote
 */
export function mismatch(model, dataset, promote) {
  if (!model?.dataset || !dataset || subjectOf(model.dataset) === subjectOf(dataset)) return "";
  const { name, version, classes } = model;
  const what = `${name} was trained on ${subjectOf(model.dataset)} and answers with ${classes.length} classes; this run trains on ${dataset}.`;
  const then =
    promote === "always"
      ? `Its version takes the place of version ${version} whatever comes out: whoever asks ${name} gets answers of another kind.`
      : `Its version will stand beside version ${version}, and not be served.`;
  return `${what} ${then} To make a model of its own, choose another name, such as ${subjectOf(dataset)}.`;
}

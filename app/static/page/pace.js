// How long a run will take, by the newest one of the same recipe on the same data.

import { duration } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */

/**
 * In words; "" where no such run has succeeded here.
 * @param {Wire.JobBody[]} jobs that have succeeded, newest first
 * @param {{ recipe: string, dataset: string | null, epochs: number | null }} wanted epochs: null where the data decide
 */
export function foretold(jobs, { recipe, dataset, epochs }) {
  const like = jobs.find(
    (job) => job.recipe === recipe && job.epoch > 0 && (!dataset || baseOf(job.config["dataset"]) === dataset),
  );
  if (!like?.started_at || !like.finished_at) return "";
  const seconds = (Date.parse(like.finished_at) - Date.parse(like.started_at)) / 1000;
  const all = epochs ? (seconds / like.epoch) * epochs : seconds;
  return `About ${duration(Math.max(1, all))}, by the last run of ${recipe} (${like.model} ${like.version ?? ""}).`;
}

/** @param {unknown} dataset NAME or NAME@n */
const baseOf = (dataset) => String(dataset).split("@")[0];

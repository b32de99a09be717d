// The parts of the live view that are lists: errors, requests, jobs, the machine, work in the background.

import { h } from "./dom.js";
import { status } from "./job.js";
import { listTable } from "./list.js";
import { pageOf } from "./paths.js";
import { bytes, capital, count, percent, plural } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Child } from "./dom.js" */

const MOMENT = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** @param {Wire.MomentBody} body */
export function problems({ problems: found, refused }) {
  if (!found.length) return [h("p.fine", "None since the service started.")];
  const rows = found.map((one) => [one.title, one.status, count(one.count), count(one.recent)]);
  const told = Object.entries(refused).map(([reason, number]) => `${count(number)} by ${reason}`);
  return [
    listTable("Errors by kind", ["Kind", "Status", "Since the start", "Since you look"], rows),
    told.length ? h("p.fine", `Refused under load: ${told.join(", ")}.`) : null,
  ];
}

/** @param {Wire.RequestBody[]} found */
export function requests(found) {
  if (!found.length) return [h("p.fine", "None yet.")];
  const rows = found.map((one) => [
    MOMENT.format(new Date(one.at)),
    `${one.method} ${one.route}`,
    one.status,
    `${one.ms.toFixed(1)} ms`,
    one.model && h("a", { href: pageOf(one.model, one.version ?? undefined) }, `${one.model}@${one.version}`),
    one.label && `${one.label} (${percent(one.probability, 1)})`,
    h("code", one.id),
  ]);
  const head = ["Time", "Request", "Status", "Took", "Model", "Answer", "Id"];
  return [listTable("Last requests", head, rows)];
}

/** @param {Wire.MomentBody} body */
export function jobs({ jobs: found, job_counts: counts, trainers }) {
  const ended = ["succeeded", "failed", "cancelled"].map((name) => `${count(counts[name])} ${name}`);
  const rows = found.map((job) => [
    h("a", { href: job.kind === "import" ? "#/data" : `#/train/${job.id}` }, job.model),
    job.kind,
    status(job.status),
    job.kind === "train" ? `${job.epoch}/${job.epochs ?? "?"} epochs` : "",
  ]);
  const hosts = [...new Set(trainers.map(({ host }) => host))].join(", ");
  return [
    rows.length ? listTable("Jobs", ["Model or data set", "Kind", "Status", "Progress"], rows) : null,
    h("p.fine", `${rows.length ? "" : "Nothing waits or runs. "}${ended.join(", ")}.`),
    trainers.length
      ? h("p.fine", `${plural(trainers.length, "training worker")} on ${hosts}.`)
      : h("p.problem", "No training worker is running: jobs wait."),
  ];
}

/** @param {Wire.MomentBody} body */
export function machine({ host, workers, disk, database }) {
  const rows = workers.map((worker) => [
    worker.pid,
    worker.cpu === null ? "–" : percent(worker.cpu, 0),
    worker.memory_bytes === null ? "–" : bytes(worker.memory_bytes),
  ]);
  const free = `${bytes(disk.free)} of ${bytes(disk.total)} free`;
  const scarce = disk.free < disk.total / 20;
  const answers =
    database.ms === null
      ? h("span.problem", `${database.kind} does not answer`)
      : `${database.kind}, ${bytes(database.bytes ?? 0)}, answers in ${database.ms.toFixed(1)} ms`;
  return [
    h(
      "dl.facts",
      fact("Machine", host),
      fact("Disk", scarce ? h("span.problem", free) : free),
      fact("Database", answers),
    ),
    listTable("Processes that answer", ["Process", "CPU", "Memory"], rows),
  ];
}

/** @param {Wire.TaskBody[]} found */
export function tasks(found) {
  const [failing, working] = [found.filter(({ error }) => error), found.filter(({ error }) => !error)];
  return [
    failing.length > 0 && taskList(failing),
    h(
      "details",
      h(
        "summary",
        failing.length ? `${count(working.length)} others work` : `All ${count(working.length)} work`,
      ),
      taskList(working),
    ),
  ].filter((part) => part !== false);
}

/** @param {Wire.TaskBody[]} found */
const taskList = (found) =>
  h(
    "ul.tasks",
    { role: "list" },
    found.map(({ name, error }) =>
      h("li", h("span", capital(name)), error && h("span.problem", `has failed ${error}`)),
    ),
  );

/**
 * @param {string} name
 * @param {Child} text
 */
const fact = (name, text) => h("div", h("dt", name), h("dd", text));

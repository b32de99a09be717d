// Train: what to run, the job as it goes, and the jobs there are.

import { get, service } from "./api.js";
import { loadForm } from "./form.js";
import { status, watch, watchedId } from "./job.js";
import { $, fill, h, loading, note, percent, trouble, when } from "./dom.js";

const POLL = 4000;

let timer = null;
let listed = ""; // what the list of jobs shows

export function start() {
  service.addEventListener("back", () => {
    if (!$("train").hidden) refresh();
  });
}

export async function show([id], query) {
  const link = query.has("model") ? { model: query.get("model"), feedback: query.has("feedback") } : null;
  clearInterval(timer);
  timer = setInterval(() => {
    if (!document.hidden) listJobs();
  }, POLL);
  if (id !== watchedId()) watch(id, listJobs);
  await refresh(link);
}

export function leave() {
  clearInterval(timer);
}

async function refresh(link) {
  await Promise.all([listJobs(), loadForm(link)]);
}

async function listJobs() {
  const host = $("jobs");
  if (!host.childElementCount) host.append(loading("Reading the jobs"));
  try {
    const { jobs } = await get("/train?limit=20");
    const now = JSON.stringify([jobs, watchedId()]);
    if (now === listed) return;
    listed = now;
    if (!jobs.length) {
      fill(host, note("empty", "No jobs yet", "Start one: softmax-mnist takes seconds, the others minutes."));
      return;
    }
    const focused = host.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    fill(
      host,
      h(
        "ul.jobs",
        { role: "list" },
        jobs.map((job) =>
          h(
            "li",
            h(
              "a",
              { href: `#/train/${job.id}`, "aria-current": job.id === watchedId() ? "true" : null },
              h("span.job-name", job.model, h("small", `by ${job.recipe}`)),
              h(
                "span.fine",
                job.status === "queued"
                  ? `number ${job.position} in the queue`
                  : `${job.epoch}/${job.epochs} epochs${job.best ? `, best ${percent(job.best.accuracy)}` : ""}`,
              ),
              h("span.fine", when(job.created_at)),
              status(job.status),
            ),
          ),
        ),
      ),
    );
    if (focused) host.querySelector(`[href="${focused}"]`)?.focus();
  } catch (error) {
    if (!host.querySelector(".jobs")) {
      listed = "";
      fill(host, trouble(error, listJobs));
    }
  }
}

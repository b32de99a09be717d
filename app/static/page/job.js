// One job: its progress, its curves, and what came out.

import { Away, change, follow, get, service } from "./api.js";
import { Curves } from "./charts.js";
import { $, act, bytes, count, duration, fill, h, loading, percent, plural, trouble, when } from "./dom.js";

const ENDED = ["succeeded", "failed", "cancelled"];

let watched = null; // the job that is shown, and its parts

export const watchedId = () => watched?.id;
export const status = (text) => h("span.status", { "data-status": text }, text);

/** Shows a job (or none) and follows it; `onNews` is called when its status changes. */
export function watch(id, onNews) {
  watched?.abort.abort();
  watched?.curves.remove();
  watched = null;
  $("job").replaceChildren();
  if (!id) return;
  watched = {
    id,
    onNews,
    abort: new AbortController(),
    curves: new Curves(),
    head: h("div"),
    ends: h("div.stack"),
    said: h("p.problem", { role: "alert" }),
    live: h("p.visually-hidden", { role: "status" }),
  };
  watched.head.append(loading("Reading the job"));
  fill(
    $("job"),
    h("div.sheet.job", watched.head, watched.live, watched.said, watched.curves.element),
    watched.ends,
  );
  attend(watched);
  if ($("job").getBoundingClientRect().top < 0 || $("job").getBoundingClientRect().top > innerHeight / 2)
    $("job").scrollIntoView();
}

/** Follows a job until it has ended. */
async function attend(mine) {
  const path = `/train/${encodeURIComponent(mine.id)}`;
  try {
    for await (const { kind, data } of follow(`${path}/events`, mine.abort.signal)) {
      if (mine !== watched) return;
      if (kind === "step") {
        mine.curves.step(data);
        mine.progress?.(data);
      }
      if (kind === "epoch") {
        mine.curves.epoch(data);
        mine.progress?.({ ...data, step: 1, steps: 1 });
      }
      if (kind === "status") {
        showJob(mine, await get(path));
        mine.onNews();
      }
    }
    if (mine === watched) showJob(mine, await get(path));
  } catch (error) {
    if (mine !== watched || mine.abort.signal.aborted) return;
    if (error instanceof Away)
      service.addEventListener(
        "back",
        () => {
          if (mine === watched) again(mine);
        },
        { once: true },
      );
    else
      fill(
        mine.head,
        trouble(error, () => again(mine)),
      );
  }
}

function again({ id, onNews }) {
  watch(id, onNews);
}

function showJob(mine, job) {
  if (mine !== watched) return;
  const say = (text) => {
    mine.said.textContent = text;
  };
  const news = `${job.model}: ${job.status}`;
  if (mine.live.textContent !== news) mine.live.textContent = news;
  const bar = h("progress", { max: job.epochs, "aria-label": "Epochs" });
  const line = h("p.fine.progress-line");
  mine.progress = ({ epoch, step, steps, images_per_second: speed, eta_seconds: eta, loss, accuracy }) => {
    bar.value = epoch - 1 + step / steps;
    const parts = [
      `Epoch ${epoch} of ${job.epochs}`,
      `loss ${loss.toFixed(3)}`,
      `accuracy ${percent(accuracy, 1)}`,
    ];
    if (speed) parts.push(`${count(Math.round(speed))} images/s`);
    if (eta !== undefined) parts.push(`about ${duration(eta)} left`);
    line.textContent = parts.join(" · ");
  };
  bar.value = job.epoch;
  line.textContent = lineOf(job);
  const cancel = act(
    "Cancel",
    async () => {
      await change("DELETE", `/train/${job.id}`);
    },
    { say },
  );
  const resume = act(
    "Resume",
    async () => {
      await change("POST", `/train/${job.id}/resume`);
      again(mine);
    },
    { say },
  );
  fill(
    mine.head,
    h("header.job-head", h("h2", `${job.model}`, h("small", `by ${job.recipe}`)), status(job.status)),
    line,
    bar,
    job.error && h("p.problem", job.error),
    h(
      "p.actions",
      !ENDED.includes(job.status) && cancel,
      ["failed", "cancelled"].includes(job.status) && resume,
    ),
  );
  if (ENDED.includes(job.status)) showEnd(mine, job);
  else mine.ends.replaceChildren();
}

function lineOf(job) {
  if (job.status === "queued")
    return job.position > 1 ? `Number ${job.position} in the queue` : "Next to start";
  if (job.status === "running") return `Epoch ${job.epoch + 1} of ${job.epochs} begins`;
  const took =
    job.started_at && job.finished_at
      ? ` after ${duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000)}`
      : "";
  return `${plural(job.epoch, "epoch")} of ${job.epochs}, ended ${when(job.finished_at)}${took}`;
}

/** What came out: the version and whether it serves, what corrections changed, pictures. */
async function showEnd(mine, job) {
  const parts = [];
  if (job.version !== null) parts.push(await outcome(mine, job));
  if (job.feedback?.used) {
    const { used, right_before: before, right_after: after } = job.feedback;
    parts.push(
      h(
        "div.sheet",
        h("h2", "What the corrections changed"),
        h(
          "p",
          `${plural(used, "corrected picture")} joined the training. `,
          before !== null && `${count(before)} of them ${before === 1 ? "was" : "were"} right before; `,
          `${count(after)} of ${count(used)} ${after === 1 ? "is" : "are"} right now.`,
        ),
      ),
    );
  }
  try {
    parts.push(pictures(await get(`/train/${job.id}/artifacts`)));
  } catch {
    // they were cleared away
  }
  if (mine === watched) fill(mine.ends, ...parts.filter(Boolean));
}

async function outcome(mine, job) {
  const path = `/models/${encodeURIComponent(job.model)}`;
  const say = (text) => {
    mine.said.textContent = text;
  };
  const versions = await get(`${path}/versions`).catch(() => []);
  const version = versions.find((each) => each.version === job.version);
  const serving = version?.aliases.includes("production");
  const anew = async () => showEnd(mine, job);
  const promote = act(
    `Serve version ${job.version}`,
    async () => {
      await change("PUT", `${path}/aliases/production`, { version: job.version, why: "from the page" });
      await anew();
    },
    { say, kind: "strong" },
  );
  const back = act(
    "Roll back",
    async () => {
      await change("POST", `${path}/rollback`, { why: "from the page" });
      await anew();
    },
    { say },
  );
  const why = job.decision?.reason;
  return h(
    "div.sheet.outcome",
    h("h2", `Version ${job.version}`),
    h(
      "p",
      version?.accuracy !== null &&
        version?.accuracy !== undefined &&
        `${percent(version.accuracy)} on the test set. `,
      !version ? "It was deleted since." : serving ? h("b", "It serves now.") : "It does not serve.",
      why && ` ${why[0].toUpperCase()}${why.slice(1)}.`,
    ),
    h(
      "p.actions",
      version && !serving && promote,
      serving && versions.length > 1 && back,
      h("a", { href: `#/models/${encodeURIComponent(job.model)}` }, "See the model"),
      " ",
      h("a", { href: "#/try" }, "Try it"),
    ),
  );
}

function pictures(files) {
  const images = files.filter(({ name }) => name.endsWith(".png"));
  const others = files.filter(({ name }) => !name.endsWith(".png"));
  if (!files.length) return null;
  const title = (name) => {
    const words = name.replace(/\.\w+$/, "").replaceAll("-", " ");
    return words[0].toUpperCase() + words.slice(1);
  };
  return h(
    "div.sheet",
    h("h2", "What the run left"),
    h(
      "div.pictures",
      images.map(({ name, url }) =>
        h(
          "figure",
          h("a", { href: url }, h("img", { src: url, alt: title(name), loading: "lazy" })),
          h("figcaption", title(name)),
        ),
      ),
    ),
    h(
      "ul.files",
      { role: "list" },
      others.map(({ name, url, bytes: size }) => h("li", h("a", { href: url }, name), h("small", bytes(size)))),
    ),
  );
}

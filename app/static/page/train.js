// Train: what to run, the job as it goes, and the jobs there are.

import { Away, Problem, change, follow, get, service } from "./api.js";
import { Curves } from "./charts.js";
import { $, act, bytes, count, duration, fill, h, loading, note, percent, plural, trouble, when } from "./dom.js";

const MAIN = ["epochs", "lr", "batch_size", "optimizer", "schedule", "augment"]; // the rest is behind "More settings"
const ABOUT = { epochs: "How often each image is seen", batch_size: "Images in a step" }; // where the service says nothing
const NAMES = { lr: "Learning rate", batch_size: "Batch size", epochs: "Epochs" };
const PROMOTE = { if_better: "if it is not worse", always: "always", never: "never" };
const ENDED = ["succeeded", "failed", "cancelled"];
const POLL = 4000;

let recipes = [];
let models = [];
let waiting = {}; // corrections by model; null: the service keeps none
let wanted = null; // by a link: {model, feedback}
let watched = null; // {id, abort, curves}
let timer = null;
let listed = ""; // what the list of jobs shows

export function start() {
  service.addEventListener("back", () => { if (!$("train").hidden) refresh(); });
}

export async function show([id], query) {
  wanted = query.has("model") ? { model: query.get("model"), feedback: query.has("feedback") } : null;
  clearInterval(timer);
  timer = setInterval(() => { if (!document.hidden) listJobs(); }, POLL);
  if (id !== watched?.id) watch(id);
  await refresh();
}

export function leave() {
  clearInterval(timer);
}

async function refresh() {
  await Promise.all([listJobs(), loadForm()]);
}

// ---- what to run

async function loadForm() {
  const form = $("run");
  if (!recipes.length) fill(form, h("h2", { id: "run-title" }, "New run"), loading("Reading the recipes"));
  try {
    const [found, served, feedback] = await Promise.all([get("/recipes"), get("/models"), get("/feedback?limit=1").catch(() => null)]);
    const fresh = !recipes.length;
    [recipes, models] = [found.filter((recipe) => recipe.trainable !== false), served];
    waiting = feedback?.enabled ? feedback.waiting : null;
    if (fresh) buildForm();
  } catch (error) {
    const old = error instanceof Problem && error.status === 404;
    if (recipes.length) return;
    fill(form, h("h2", { id: "run-title" }, "New run"),
      old ? note("empty", "No recipes here", "This service does not tell its recipes.") : trouble(error, loadForm));
    return;
  }
  if (wanted) prefer(wanted);
  offerFeedback();
}

function buildForm() {
  const recipe = h("select", { id: "recipe", name: "recipe", onchange: () => chooseRecipe() },
    recipes.map(({ name }) => h("option", { value: name }, name)));
  const model = h("input", { id: "model", name: "model", list: "model-names", autocomplete: "off", spellcheck: "false", required: true, pattern: "[a-z0-9][a-z0-9\\-]{0,63}", oninput: offerFeedback });
  const promote = h("select", { id: "promote", name: "promote" }, Object.entries(PROMOTE).map(([value, text]) => h("option", { value }, text)));
  const said = h("p.problem", { id: "run-problem", role: "alert" });
  fill($("run"),
    h("h2", { id: "run-title" }, "New run"),
    field("recipe", "Recipe", recipe, h("span", { id: "recipe-about" })),
    field("model", "Model", model, "It gets a new version; a new name makes a new model."),
    h("datalist", { id: "model-names" }, models.map(({ name }) => h("option", { value: name }))),
    h("div.fields", { id: "main-fields" }),
    h("details", { id: "more" }, h("summary", "More settings"), h("div.fields", { id: "more-fields" })),
    field("promote", "Serve it", promote, "Whether production moves to the new version at the end."),
    h("div", { id: "use-feedback" }),
    said,
    h("p.actions", h("button.strong", { type: "submit" }, "Start training")));
  $("run").onsubmit = (event) => { event.preventDefault(); submit(said); };
  recipe.value = recipes.find(({ name }) => name === "softmax-mnist")?.name ?? recipes[0].name;
  chooseRecipe();
}

/** One labelled control with its explanation and a place for what is wrong with it. */
function field(id, label, control, about) {
  control.setAttribute("aria-describedby", `${id}-about ${id}-wrong`);
  return h("div.field", { "data-field": id }, h("label", { for: id }, label), control,
    h("p.fine", { id: `${id}-about` }, about), h("p.problem", { id: `${id}-wrong` }));
}

const recipeNow = () => recipes.find(({ name }) => name === $("recipe").value);
const nameOf = (name) => NAMES[name] ?? (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

function chooseRecipe(model) {
  const recipe = recipeNow();
  $("recipe-about").textContent = `${recipe.summary[0].toUpperCase()}${recipe.summary.slice(1)}. Expect: ${recipe.reference}.`;
  $("model").value = model ?? recipe.name;
  const rows = recipe.fields.filter(({ name }) => !["model", "recipe", "promote", "feedback"].includes(name));
  const main = MAIN.map((name) => rows.find((row) => row.name === name)).filter(Boolean);
  fill($("main-fields"), ...main.map(setting));
  fill($("more-fields"), ...rows.filter((row) => !main.includes(row)).map(setting));
  offerFeedback();
}

function setting({ name, type, default: usual, minimum, maximum, choices, description }) {
  const id = `set-${name}`;
  let control;
  if (choices?.length) {
    control = h("select", { id, name }, choices.map((choice) => h("option", { value: choice }, choice)));
    control.value = usual;
  } else if (typeof usual === "boolean" || type === "boolean") {
    control = h("select", { id, name }, ["false", "true"].map((choice) => h("option", { value: choice }, choice)));
    control.value = String(usual);
  } else {
    const number = typeof usual === "number" || type === "integer" || type === "number";
    control = h("input", { id, name, type: number ? "number" : "text", step: type === "integer" ? 1 : "any", min: minimum, max: maximum, inputmode: number ? "decimal" : null });
    control.value = usual ?? "";
  }
  control.dataset.usual = control.value;
  control.dataset.kind = choices?.length ? "text" : typeof usual;
  const range = minimum !== null && minimum !== undefined && maximum !== null && maximum !== undefined ? `${count(minimum)} to ${count(maximum)}` : "";
  const about = [description ?? ABOUT[name], range].filter(Boolean).join("; ");
  return field(id, nameOf(name), control, about && about[0].toUpperCase() + about.slice(1) + ".");
}

/** What a link from elsewhere asked for: a model, trained as it was trained before. */
async function prefer({ model, feedback }) {
  wanted = null;
  let recipe = null;
  try {
    recipe = (await get(`/models/${encodeURIComponent(model)}`)).training?.recipe;
  } catch { // a model without a card trains like any other
  }
  if (recipes.some(({ name }) => name === recipe)) $("recipe").value = recipe;
  chooseRecipe(model);
  const box = $("feedback");
  if (box) box.checked = feedback;
}

function offerFeedback() {
  const host = $("use-feedback");
  if (!host) return;
  const number = waiting?.[$("model").value] ?? 0;
  const before = $("feedback")?.checked ?? true;
  host.hidden = !number;
  host.replaceChildren();
  if (!number) return;
  const box = h("input", { type: "checkbox", id: "feedback" });
  box.checked = before;
  host.append(h("label.check", box, ` Train on ${plural(number, "correction")} too`));
}

async function submit(said) {
  said.textContent = "";
  for (const wrong of $("run").querySelectorAll(".field .problem")) wrong.textContent = "";
  for (const control of $("run").elements) control.removeAttribute("aria-invalid");
  const body = { recipe: $("recipe").value, model: $("model").value.trim(), promote: $("promote").value };
  for (const control of $("run").querySelectorAll("[data-usual]")) {
    if (control.value !== control.dataset.usual) body[control.name] = valueOf(control);
  }
  if ($("feedback")?.checked) body.feedback = true;
  const button = $("run").querySelector("[type=submit]");
  button.disabled = true;
  try {
    const job = await change("POST", "/train", body);
    location.hash = `#/train/${job.id}`;
  } catch (error) {
    tellWrong(error, said);
  } finally {
    button.disabled = false;
  }
}

function valueOf({ value, dataset }) {
  if (dataset.kind === "boolean") return value === "true";
  return dataset.kind === "number" && value.trim() !== "" && !Number.isNaN(Number(value)) ? Number(value) : value;
}

/** Each field says what is wrong with it; what belongs to none stands above the button. */
function tellWrong(error, said) {
  const left = [];
  let first = null;
  for (const { field: path, problem } of error.errors ?? []) {
    const name = path.split(".").at(-1);
    const control = $("run").elements[name];
    const place = control && $(`${control.id}-wrong`);
    if (!place) { left.push(`${name}: ${problem}`); continue; }
    place.textContent = problem;
    control.setAttribute("aria-invalid", "true");
    control.closest("details")?.setAttribute("open", "");
    first ??= control;
  }
  first?.focus();
  if (!first || left.length) said.textContent = [error.title, error.detail, error.hint, ...left].filter(Boolean).join(". ");
}

// ---- one job

function watch(id) {
  watched?.abort.abort();
  watched?.curves.remove();
  watched = null;
  $("job").replaceChildren();
  if (!id) return;
  watched = { id, abort: new AbortController(), curves: new Curves(), head: h("div"), ends: h("div.stack"), said: h("p.problem", { role: "alert" }), live: h("p.visually-hidden", { role: "status" }) };
  watched.head.append(loading("Reading the job"));
  fill($("job"), h("div.sheet.job", watched.head, watched.live, watched.said, watched.curves.element), watched.ends);
  attend(watched);
  if ($("job").getBoundingClientRect().top < 0 || $("job").getBoundingClientRect().top > innerHeight / 2) $("job").scrollIntoView();
}

/** Follows a job until it has ended. */
async function attend(mine) {
  const path = `/train/${encodeURIComponent(mine.id)}`;
  try {
    for await (const { kind, data } of follow(`${path}/events`, mine.abort.signal)) {
      if (mine !== watched) return;
      if (kind === "step") { mine.curves.step(data); mine.progress?.(data); }
      if (kind === "epoch") { mine.curves.epoch(data); mine.progress?.({ ...data, step: 1, steps: 1 }); }
      if (kind === "status") { showJob(mine, await get(path)); listJobs(); }
    }
    if (mine === watched) showJob(mine, await get(path));
  } catch (error) {
    if (mine !== watched || mine.abort.signal.aborted) return;
    if (error instanceof Away) service.addEventListener("back", () => { if (mine === watched) again(mine.id); }, { once: true });
    else fill(mine.head, trouble(error, () => again(mine.id)));
  }
}

function again(id) {
  watched = { ...watched, id: null };
  watch(id);
}

function showJob(mine, job) {
  if (mine !== watched) return;
  const say = (text) => { mine.said.textContent = text; };
  const news = `${job.model}: ${job.status}`;
  if (mine.live.textContent !== news) mine.live.textContent = news;
  const bar = h("progress", { max: job.epochs, "aria-label": "Epochs" });
  const line = h("p.fine.progress-line");
  mine.progress = ({ epoch, step, steps, images_per_second: speed, eta_seconds: eta, loss, accuracy }) => {
    bar.value = epoch - 1 + step / steps;
    const parts = [`Epoch ${epoch} of ${job.epochs}`, `loss ${loss.toFixed(3)}`, `accuracy ${percent(accuracy, 1)}`];
    if (speed) parts.push(`${count(Math.round(speed))} images/s`);
    if (eta !== undefined) parts.push(`about ${duration(eta)} left`);
    line.textContent = parts.join(" · ");
  };
  bar.value = job.epoch;
  line.textContent = lineOf(job);
  const cancel = act("Cancel", async () => { await change("DELETE", `/train/${job.id}`); }, { say });
  const resume = act("Resume", async () => { await change("POST", `/train/${job.id}/resume`); again(job.id); }, { say });
  fill(mine.head,
    h("header.job-head", h("h2", `${job.model}`, h("small", `by ${job.recipe}`)), status(job.status)),
    line, bar,
    job.error && h("p.problem", job.error),
    h("p.actions", !ENDED.includes(job.status) && cancel, ["failed", "cancelled"].includes(job.status) && resume));
  if (ENDED.includes(job.status)) showEnd(mine, job);
  else mine.ends.replaceChildren();
}

function lineOf(job) {
  if (job.status === "queued") return job.position > 1 ? `Number ${job.position} in the queue` : "Next to start";
  if (job.status === "running") return `Epoch ${job.epoch + 1} of ${job.epochs} begins`;
  const took = job.started_at && job.finished_at ? ` after ${duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000)}` : "";
  return `${plural(job.epoch, "epoch")} of ${job.epochs}, ended ${when(job.finished_at)}${took}`;
}

const status = (text) => h("span.status", { "data-status": text }, text);

/** What came out: the version and whether it serves, what corrections changed, pictures. */
async function showEnd(mine, job) {
  const parts = [];
  if (job.version !== null) parts.push(await outcome(mine, job));
  if (job.feedback?.used) {
    const { used, right_before: before, right_after: after } = job.feedback;
    parts.push(h("div.sheet", h("h2", "What the corrections changed"),
      h("p", `${plural(used, "corrected picture")} joined the training. `, before !== null && `${count(before)} of them ${before === 1 ? "was" : "were"} right before; `, `${count(after)} of ${count(used)} ${after === 1 ? "is" : "are"} right now.`)));
  }
  try {
    parts.push(pictures(await get(`/train/${job.id}/artifacts`)));
  } catch { // they were cleared away
  }
  if (mine === watched) fill(mine.ends, ...parts.filter(Boolean));
}

async function outcome(mine, job) {
  const path = `/models/${encodeURIComponent(job.model)}`;
  const say = (text) => { mine.said.textContent = text; };
  const versions = await get(`${path}/versions`).catch(() => []);
  const version = versions.find((each) => each.version === job.version);
  const serving = version?.aliases.includes("production");
  const anew = async () => showEnd(mine, job);
  const promote = act(`Serve version ${job.version}`, async () => {
    await change("PUT", `${path}/aliases/production`, { version: job.version, why: "from the page" });
    await anew();
  }, { say, kind: "strong" });
  const back = act("Roll back", async () => {
    await change("POST", `${path}/rollback`, { why: "from the page" });
    await anew();
  }, { say });
  const why = job.decision?.reason;
  return h("div.sheet.outcome", h("h2", `Version ${job.version}`),
    h("p", version?.accuracy !== null && version?.accuracy !== undefined && `${percent(version.accuracy)} on the test set. `,
      !version ? "It was deleted since." : serving ? h("b", "It serves now.") : "It does not serve.", why && ` ${why[0].toUpperCase()}${why.slice(1)}.`),
    h("p.actions", version && !serving && promote, serving && versions.length > 1 && back,
      h("a", { href: `#/models/${encodeURIComponent(job.model)}` }, "See the model"), " ", h("a", { href: "#/try" }, "Try it")));
}

function pictures(files) {
  const images = files.filter(({ name }) => name.endsWith(".png"));
  const others = files.filter(({ name }) => !name.endsWith(".png"));
  if (!files.length) return null;
  const title = (name) => nameOf(name.replace(/\.\w+$/, "").replaceAll("-", "_"));
  return h("div.sheet", h("h2", "What the run left"),
    h("div.pictures", images.map(({ name, url }) => h("figure", h("a", { href: url }, h("img", { src: url, alt: title(name), loading: "lazy" })), h("figcaption", title(name))))),
    h("ul.files", { role: "list" }, others.map(({ name, url, bytes: size }) => h("li", h("a", { href: url }, name), h("small", bytes(size))))));
}

// ---- all jobs

async function listJobs() {
  const host = $("jobs");
  if (!host.childElementCount) host.append(loading("Reading the jobs"));
  try {
    const { jobs } = await get("/train?limit=20");
    const now = JSON.stringify([jobs, watched?.id]);
    if (now === listed) return;
    listed = now;
    if (!jobs.length) {
      fill(host, note("empty", "No jobs yet", "Start one: softmax-mnist takes seconds, the others minutes."));
      return;
    }
    const focused = host.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    fill(host, h("ul.jobs", { role: "list" }, jobs.map((job) => h("li", h("a", { href: `#/train/${job.id}`, "aria-current": job.id === watched?.id ? "true" : null },
      h("span.job-name", job.model, h("small", `by ${job.recipe}`)),
      h("span.fine", job.status === "queued" ? `number ${job.position} in the queue` : `${job.epoch}/${job.epochs} epochs${job.best ? `, best ${percent(job.best.accuracy)}` : ""}`),
      h("span.fine", when(job.created_at)), status(job.status))))));
    if (focused) host.querySelector(`[href="${focused}"]`)?.focus();
  } catch (error) {
    if (!host.querySelector(".jobs")) {
      listed = "";
      fill(host, trouble(error, listJobs));
    }
  }
}

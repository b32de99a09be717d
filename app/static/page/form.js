// What to train: a recipe, and what differs from it.

import { Problem, change, get } from "./api.js";
import { $, count, fill, h, loading, note, plural, trouble } from "./dom.js";

const MAIN = ["epochs", "lr", "batch_size", "optimizer", "schedule", "augment"]; // the rest is behind "More settings"
const ABOUT = { epochs: "How often each image is seen", batch_size: "Images in a step" }; // where the service says nothing
const NAMES = { lr: "Learning rate", batch_size: "Batch size", epochs: "Epochs" };
const PROMOTE = { if_better: "if it is not worse", always: "always", never: "never" };

let recipes = [];
let models = [];
let waiting = {}; // corrections by model; null: the service keeps none

/** Reads the recipes and fills the form in; what a link asked for is chosen. */
export async function loadForm(link) {
  const form = $("run");
  if (!recipes.length) fill(form, h("h2", { id: "run-title" }, "New run"), loading("Reading the recipes"));
  try {
    const [found, served, feedback] = await Promise.all([
      get("/recipes"),
      get("/models"),
      get("/feedback?limit=1").catch(() => null),
    ]);
    const fresh = !recipes.length;
    [recipes, models] = [found.filter((recipe) => recipe.trainable !== false), served];
    waiting = feedback?.enabled ? feedback.waiting : null;
    if (fresh) buildForm();
  } catch (error) {
    const old = error instanceof Problem && error.status === 404;
    if (recipes.length) return;
    fill(
      form,
      h("h2", { id: "run-title" }, "New run"),
      old
        ? note("empty", "No recipes here", "This service does not tell its recipes.")
        : trouble(error, () => loadForm(link)),
    );
    return;
  }
  if (link) prefer(link);
  offerFeedback();
}

function buildForm() {
  const recipe = h(
    "select",
    { id: "recipe", name: "recipe", onchange: () => chooseRecipe() },
    recipes.map(({ name }) => h("option", { value: name }, name)),
  );
  const model = h("input", {
    id: "model",
    name: "model",
    list: "model-names",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    pattern: "[a-z0-9][a-z0-9\\-]{0,63}",
    oninput: offerFeedback,
  });
  const promote = h(
    "select",
    { id: "promote", name: "promote" },
    Object.entries(PROMOTE).map(([value, text]) => h("option", { value }, text)),
  );
  const said = h("p.problem", { id: "run-problem", role: "alert" });
  fill(
    $("run"),
    h("h2", { id: "run-title" }, "New run"),
    field("recipe", "Recipe", recipe, h("span", { id: "recipe-about" })),
    field("model", "Model", model, "It gets a new version; a new name makes a new model."),
    h(
      "datalist",
      { id: "model-names" },
      models.map(({ name }) => h("option", { value: name })),
    ),
    h("div.fields", { id: "main-fields" }),
    h("details", { id: "more" }, h("summary", "More settings"), h("div.fields", { id: "more-fields" })),
    field("promote", "Serve it", promote, "Whether production moves to the new version at the end."),
    h("div", { id: "use-feedback" }),
    said,
    h("p.actions", h("button.strong", { type: "submit" }, "Start training")),
  );
  $("run").onsubmit = (event) => {
    event.preventDefault();
    submit(said);
  };
  recipe.value = recipes.find(({ name }) => name === "softmax-mnist")?.name ?? recipes[0].name;
  chooseRecipe();
}

/** One labelled control with its explanation and a place for what is wrong with it. */
function field(id, label, control, about) {
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

const nameOf = (name) => NAMES[name] ?? (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
const recipeNow = () => recipes.find(({ name }) => name === $("recipe").value);

function chooseRecipe(model) {
  const recipe = recipeNow();
  $("recipe-about").textContent =
    `${recipe.summary[0].toUpperCase()}${recipe.summary.slice(1)}. Expect: ${recipe.reference}.`;
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
    control = h(
      "select",
      { id, name },
      choices.map((choice) => h("option", { value: choice }, choice)),
    );
    control.value = usual;
  } else if (typeof usual === "boolean" || type === "boolean") {
    control = h(
      "select",
      { id, name },
      ["false", "true"].map((choice) => h("option", { value: choice }, choice)),
    );
    control.value = String(usual);
  } else {
    const number = typeof usual === "number" || type === "integer" || type === "number";
    control = h("input", {
      id,
      name,
      type: number ? "number" : "text",
      step: type === "integer" ? 1 : "any",
      min: minimum,
      max: maximum,
      inputmode: number ? "decimal" : null,
    });
    control.value = usual ?? "";
  }
  control.dataset.usual = control.value;
  control.dataset.kind = choices?.length ? "text" : typeof usual;
  const range =
    minimum !== null && minimum !== undefined && maximum !== null && maximum !== undefined
      ? `${count(minimum)} to ${count(maximum)}`
      : "";
  const about = [description ?? ABOUT[name], range].filter(Boolean).join("; ");
  return field(id, nameOf(name), control, about && about[0].toUpperCase() + about.slice(1) + ".");
}

/** What a link from elsewhere asked for: a model, trained as it was trained before. */
async function prefer({ model, feedback }) {
  let recipe = null;
  try {
    recipe = (await get(`/models/${encodeURIComponent(model)}`)).training?.recipe;
  } catch {
    // a model without a card trains like any other
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
  return dataset.kind === "number" && value.trim() !== "" && !Number.isNaN(Number(value))
    ? Number(value)
    : value;
}

/** Each field says what is wrong with it; what belongs to none stands above the button. */
function tellWrong(error, said) {
  const left = [];
  let first = null;
  for (const { field: path, problem } of error.errors ?? []) {
    const name = path.split(".").at(-1);
    const control = $("run").elements[name];
    const place = control && $(`${control.id}-wrong`);
    if (!place) {
      left.push(`${name}: ${problem}`);
      continue;
    }
    place.textContent = problem;
    control.setAttribute("aria-invalid", "true");
    control.closest("details")?.setAttribute("open", "");
    first ??= control;
  }
  first?.focus();
  if (!first || left.length)
    said.textContent = [error.title, error.detail, error.hint, ...left].filter(Boolean).join(". ");
}

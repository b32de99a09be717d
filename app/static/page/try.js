// Try: a picture, and what the chosen models say of it while it is drawn.

import { get, request, service } from "./api.js";
import { Answer } from "./answer.js";
import { Corrections } from "./correct.js";
import { $, fill, h, loading, percent, trouble } from "./dom.js";
import { Drawing } from "./draw.js";

const GAP = 50; // ms between two requests while a stroke goes on
const PAUSE = 300; // ms without a change, after which explanations are asked for and the result is announced
const SUBJECTS = {
  mnist: {
    name: "Digits",
    title: "Draw a digit",
    samples: [..."0123456789"].map((digit) => [digit, `digit-${digit}`]),
  },
  "fashion-mnist": {
    name: "Fashion",
    title: "Draw a garment",
    samples: [
      "t-shirt-top",
      "trouser",
      "pullover",
      "dress",
      "coat",
      "sandal",
      "shirt",
      "sneaker",
      "bag",
      "ankle-boot",
    ].map((name) => [name.replace("-top", "").replace("ankle-", "ankle "), name]),
  },
};

let drawing;
let corrections;
let models = [];
let subject = null;
const chosen = new Map(); // subject -> names
let answers = []; // of the chosen models
let number = 0; // of the picture
let sentAt = 0;
let gap = null;
let pause = null;
let link = null;

export async function start() {
  drawing = new Drawing($("canvas"), $("pen"));
  corrections = new Corrections($("correct"), $("corrections"));
  drawing.addEventListener("change", (event) => changed(event.drawing));
  $("undo").onclick = () => drawing.undo();
  $("clear").onclick = () => drawing.clear();
  $("width").oninput = (event) => {
    drawing.width = Number(event.target.value);
  };
  for (const id of ["file", "camera"]) {
    $(id).onchange = (event) => {
      take(event.target.files);
      event.target.value = "";
    };
  }
  $("copy").onclick = copy;
  dropAndPaste();
  service.addEventListener("back", () => (models.length ? changed(false) : load()));
  await load();
}

/** Called whenever the view is shown: models may have changed meanwhile. */
export async function show() {
  if (models.length) await load();
  corrections.refresh();
}

async function load() {
  if (!models.length) fill($("answers"), loading("Looking who can answer"));
  try {
    models = await get("/models");
  } catch (error) {
    if (!models.length) fill($("answers"), trouble(error, load));
    return;
  }
  const subjects = [...new Set(models.map(subjectOf))];
  if (!subjects.includes(subject)) subject = subjectOf(models.find((model) => model.default) ?? models[0]);
  fill(
    $("subjects"),
    ...subjects.map((each) =>
      h(
        "button",
        { type: "button", "aria-pressed": String(each === subject), onclick: () => turnTo(each) },
        SUBJECTS[each]?.name ?? each,
      ),
    ),
  );
  $("subjects").hidden = subjects.length < 2;
  showSubject();
}

const subjectOf = (model) => model.dataset ?? "other";
const ofSubject = () =>
  models.filter((model) => subjectOf(model) === subject).sort((a, b) => (b.accuracy ?? 0) - (a.accuracy ?? 0));

function turnTo(other) {
  subject = other;
  for (const button of $("subjects").children)
    button.setAttribute("aria-pressed", String(button.textContent === (SUBJECTS[other]?.name ?? other)));
  drawing.clear();
  showSubject();
}

function showSubject() {
  const { title, samples } = SUBJECTS[subject] ?? { title: "Choose a picture", samples: [] };
  $("try-title").textContent = title;
  $("samples-title").hidden = samples.length === 0;
  fill(
    $("samples"),
    ...samples.map(([label, file]) => {
      const url = `/static/page/samples/${file}.png`;
      const choose = async () => drawing.place(await (await request(url)).blob(), `${file}.png`);
      return h(
        "button",
        { type: "button", onclick: choose, "aria-label": `Sample: ${label}` },
        h("img", { src: url, alt: "", width: 28, height: 28 }),
      );
    }),
  );
  const names = new Set(
    ofSubject()
      .map(({ name }) => name)
      .filter((name) => chosen.get(subject)?.has(name)),
  );
  if (!names.size) names.add(ofSubject()[0].name); // the most accurate
  chosen.set(subject, names);
  fill(
    $("chosen"),
    h("legend", "Who answers"),
    ...ofSubject().map((model) => {
      const box = h("input", { type: "checkbox", value: model.name, onchange: () => choose(model.name, box) });
      box.checked = names.has(model.name);
      return h("label", box, h("span", model.name, h("small", percent(model.accuracy, 1))));
    }),
  );
  showAnswers();
}

function choose(name, box) {
  const names = chosen.get(subject);
  box.checked ? names.add(name) : names.delete(name);
  if (!names.size) {
    // somebody has to answer
    names.add(name);
    box.checked = true;
  }
  showAnswers();
}

function showAnswers() {
  const kept = new Map(answers.map((answer) => [`${answer.model.name}@${answer.model.version}`, answer]));
  answers = ofSubject()
    .filter((model) => chosen.get(subject).has(model.name))
    .map((model) => kept.get(`${model.name}@${model.version}`) ?? new Answer(model));
  fill($("answers"), ...answers.map((answer) => answer.element));
  $("answers").dataset.count = answers.length;
  changed(false);
}

/** The picture is another one: ask about it, during a stroke not more often than every GAP. */
function changed(goesOn) {
  number += 1;
  clearTimeout(pause);
  $("pad-hint").hidden = !drawing.empty;
  $("undo").disabled = !drawing.canUndo;
  $("clear").disabled = drawing.empty;
  corrections.hide();
  if (drawing.empty) {
    clearTimeout(gap);
    gap = null;
    for (const answer of answers) answer.reset(number);
    $("said").textContent = "";
    $("request").hidden = true;
    return;
  }
  if (!goesOn) {
    clearTimeout(gap);
    gap = null;
    send();
    pause = setTimeout(settled, PAUSE);
  } else
    gap ??= setTimeout(
      () => {
        gap = null;
        send();
      },
      Math.max(0, sentAt + GAP - performance.now()),
    );
}

async function send() {
  sentAt = performance.now();
  const picture = { number, ...(await drawing.picture()) };
  if (drawing.empty) return;
  for (const answer of answers) answer.ask(picture);
}

/** The pen rests: explanations, the announcement, the command. */
async function settled() {
  const now = number;
  const picture = { number, ...(await drawing.picture()) };
  if (now !== number || drawing.empty) return;
  showCommand(picture);
  await Promise.all(answers.map((answer) => answer.ask(picture, true)));
  if (now !== number) return;
  const results = answers.map((answer) => answer.result).filter((result) => result?.number === now);
  if (results.length) corrections.offer(results, answers[0].model.classes);
  $("said").textContent = answers
    .filter((answer) => answer.result)
    .map(
      (answer) => `${answer.model.name} says ${answer.result.label}, ${percent(answer.result.probability, 0)}.`,
    )
    .join(" ");
}

async function take(files) {
  const file = [...files].find((each) => each.type.startsWith("image/")) ?? files[0];
  if (!file) return;
  try {
    await drawing.place(file, file.name || "pasted.png");
  } catch {
    $("said").textContent = "";
    for (const answer of answers) {
      answer.reset(++number);
      answer.problem.textContent = `${file.name || "This"} is not a picture that this browser can read.`;
      answer.problem.hidden = false;
    }
  }
}

function dropAndPaste() {
  const pad = $("pad");
  const view = $("try");
  view.addEventListener("dragover", (event) => {
    event.preventDefault();
    pad.classList.add("over");
  });
  view.addEventListener("dragleave", () => pad.classList.remove("over"));
  view.addEventListener("drop", (event) => {
    event.preventDefault();
    pad.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (!view.hidden && event.clipboardData.files.length) take(event.clipboardData.files);
  });
}

/** The very request that was sent, and the file that it needs. */
function showCommand(picture) {
  if (link) URL.revokeObjectURL(link);
  link = URL.createObjectURL(picture.blob);
  $("download").href = link;
  $("download").download = picture.name;
  $("download").textContent = `Download ${picture.name}`;
  $("curl").textContent =
    `curl -H 'content-type: ${picture.blob.type}' --data-binary @${picture.name} '${location.origin}${answers[0].path()}'`;
  $("request").hidden = false;
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
  } catch {
    // only https and localhost have a clipboard
    getSelection().selectAllChildren($("curl"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => {
    $("copy").textContent = "Copy";
  }, 1500);
}

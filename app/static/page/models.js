// Models: what is served, every version, its mistakes, and two versions side by side.

import { change, get, service } from "./api.js";
import { $, act, count, fill, h, loading, note, percent, plural, trouble, when } from "./dom.js";

const PRODUCTION = "production";
const FIRST = 12; // pictures that are shown at once
let words = [];
let query = new URLSearchParams();
let drawn = 0; // what was asked for before is not shown any more

export function start() {
  service.addEventListener("back", () => { if (!$("models").hidden) show(words, query); });
}

/** #/models, #/models/NAME, #/models/NAME/VERSION; ?with=NAME@2 compares that version to another. */
export async function show(asked, search) {
  [words, query] = [asked, search];
  const mine = ++drawn;
  const [name, number] = words;
  $("models-title").textContent = name ?? "Models";
  if ($("shelf").dataset.of !== words.join("/")) fill($("shelf"), loading("Looking on the shelf"));
  $("shelf").dataset.of = words.join("/");
  let page;
  try {
    page = name ? await showModel(name, number ? Number(number) : null) : await showShelf();
  } catch (error) {
    page = [name && back(), trouble(error, () => show(words, query))].filter(Boolean);
  }
  if (mine === drawn) fill($("shelf"), ...page);
}

const back = () => h("p", h("a", { href: "#/models" }, "← All models"));
const to = (name, version) => `#/models/${encodeURIComponent(name)}${version ? `/${version}` : ""}`;
const api = (name, rest = "") => `/models/${encodeURIComponent(name)}${rest}`;

async function showShelf() {
  const models = await get("/models");
  const cards = await Promise.all(models.map(async (model) => ({ model, card: await get(api(model.name)), versions: await get(api(model.name, "/versions")) })));
  return [h("ul.shelf", { role: "list" }, cards.map(({ model, card, versions }) => h("li.sheet.model-card",
    h("header", h("h2", h("a", { href: to(model.name) }, model.name)), model.default && h("span.tag", "default")),
    h("p.figure", percent(model.accuracy), h("small", `of ${card.metrics.test ? count(card.metrics.test.images) : "no"} test images`)),
    facts(card, [["Data", model.dataset ?? "–"], ["Layers", model.architecture]]),
    h("p.fine", `Version ${model.version} of ${versions.length} serves`))))];
}

function facts(card, before = [], after = []) {
  const test = card.metrics.test;
  const calibrated = test?.calibrated ?? test?.uncalibrated;
  const rows = [...before,
    ["Parameters", count(card.parameters)],
    ["Calibration error", calibrated ? percent(calibrated.ece) : "–"],
    ...after];
  return h("dl.facts", rows.map(([term, text]) => h("div", h("dt", term), h("dd", text))));
}

async function showModel(name, number) {
  const [versions, models, audit] = await Promise.all([get(api(name, "/versions")), get("/models"), get(api(name, "/audit")).catch(() => [])]);
  const production = versions.find((version) => version.aliases.includes(PRODUCTION));
  const chosen = versions.find((version) => version.version === number) ?? production ?? versions[0];
  const cards = await Promise.all(versions.map((version) => get(api(`${name}@${version.version}`)).catch(() => null)));
  const said = h("p.problem", { role: "alert" });
  const say = (text) => fill(said, text);
  const anew = () => show(words, query);
  const before = production && versions.length > 1 && act("Roll back", async () => {
    await change("POST", api(name, "/rollback"), { why: "from the page" });
    await anew();
  }, { say });
  return [
    back(),
    h("section", { "aria-labelledby": "versions-title" },
      h("div.line", h("h2", { id: "versions-title" }, "Versions"), h("p.actions", before, h("a", { href: `#/train?model=${encodeURIComponent(name)}` }, "Train another"))),
      said,
      h("ul.versions", { role: "list" }, versions.map((version, index) => versionCard(name, version, cards[index], version === chosen, say, anew)))),
    mistakesOf(name, chosen.version),
    comparison(name, versions, models, chosen),
    history(audit),
  ];
}

function versionCard(name, version, card, chosen, say, anew) {
  const serving = version.aliases.includes(PRODUCTION);
  const path = api(name, `/aliases/${PRODUCTION}`);
  const serve = act("Serve", async () => { await change("PUT", path, { version: version.version, why: "from the page" }); await anew(); }, { say });
  const remove = act("Delete", async () => { await change("DELETE", api(name, `/versions/${version.version}`)); await anew(); }, { say, kind: "quiet", sure: true });
  const trained = card?.training;
  return h("li.sheet.version-card", { "data-version": version.version, "data-chosen": chosen },
    h("header", h("h3", h("a", { href: to(name, version.version), "aria-current": chosen ? "true" : null }, `Version ${version.version}`)),
      version.aliases.map((alias) => h("span.tag", { "data-alias": alias }, alias))),
    h("p.figure", percent(version.accuracy)),
    card && facts(card, [], [["Trained by", trained ? `${trained.recipe}, ${plural(trained.epochs, "epoch")}` : "–"], ["Made", when(version.created_at)]]),
    h("p.fine", version.job ? ["From ", h("a", { href: `#/train/${version.job}` }, "this run")] : "Shipped with the service"),
    (!serving || !version.aliases.length) && h("p.actions", !serving && serve, !version.aliases.length && remove));
}

// ---- confusion and mistakes

function mistakesOf(name, version) {
  const body = h("div", loading("Asking about every test image"));
  const load = async () => {
    try {
      fill(body, ...confusion(name, version, await get(api(name, `/versions/${version}/confusion`))));
    } catch (error) {
      fill(body, withoutTestSet(error, load));
    }
  };
  load();
  return h("section", { "aria-labelledby": "mistakes-title" }, h("h2", { id: "mistakes-title" }, `Mistakes of version ${version}`), body);
}

function withoutTestSet(error, again) {
  if (error.status === 409) return note("empty", "The test set is not here", error.hint ? `${error.hint}.` : "Put it under MINIST_DATA_DIR to see mistakes.");
  if (error.status === 404) return note("empty", "Not told here", "This service does not look at test images.");
  return trouble(error, again);
}

function confusion(name, version, { classes, matrix, images, accuracy, dataset }) {
  const shown = h("div", { "aria-live": "polite" });
  const wrong = images - Math.round(accuracy * images);
  const most = Math.max(1, ...matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const open = async (row, column, button) => {
    for (const each of table.querySelectorAll("[aria-pressed=true]")) each.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    fill(shown, loading("Fetching"));
    try {
      const search = new URLSearchParams({ true: classes[row], predicted: classes[column], limit: 50 });
      fill(shown, ...mistakes(await get(api(name, `/versions/${version}/mistakes?${search}`)), classes[row], classes[column]));
    } catch (error) {
      fill(shown, withoutTestSet(error, () => open(row, column, button)));
    }
  };
  const cell = (number, row, column) => {
    if (row === column) return h("td.right", String(number));
    if (!number) return h("td", h("span.none", "·"));
    const button = h("button", { type: "button", "aria-pressed": "false", "aria-label": `${classes[row]} taken for ${classes[column]}: ${number}`, "--share": String(Math.sqrt(number / most)) }, String(number));
    button.onclick = () => open(row, column, button);
    return h("td", button);
  };
  const table = h("table.confusion", { "data-long": classes.some((label) => label.length > 3) },
    h("caption", `Rows: what it is. Columns: what ${name} says. Press a number to see the pictures.`),
    h("thead", h("tr", h("td"), classes.map((label) => h("th", { scope: "col" }, h("span", label))))),
    h("tbody", matrix.map((row, i) => h("tr", h("th", { scope: "row" }, classes[i]), row.map((number, j) => cell(number, i, j))))));
  return [
    h("p", `${plural(wrong, "mistake")} in ${count(images)} images of ${dataset}.`),
    h("div.confusion-side", h("div.wide", { tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, table), shown),
  ];
}

function mistakes(found, right, said) {
  if (!found.length) return [note("empty", "No such mistake")];
  return [h("p", h("b", right), " taken for ", h("b", said), `: the ${found.length > 1 ? `${found.length} surest` : "only one"}`),
    gallery("Mistakes", found.map((each) => h("li",
      h("img.pixels", { src: each.image, alt: `Test image ${each.index}`, width: 28, height: 28, loading: "lazy" }),
      h("p", percent(each.probability, 1), h("span.fine", ` no. ${each.index}`)))))];
}

/** The first pictures; the others on demand. */
function gallery(name, items) {
  const list = h("ul.gallery", { role: "list", "aria-label": name }, items.slice(0, FIRST));
  const more = h("button", { type: "button", onclick: () => { list.append(...items.slice(FIRST)); more.remove(); } }, `Show all ${items.length}`);
  return h("div.stack", list, items.length > FIRST && h("p", more));
}

// ---- two versions

function comparison(name, versions, models, chosen) {
  const served = models.find((model) => model.name === name);
  const same = models.filter((model) => model.name !== name && model.dataset === served?.dataset);
  const others = [
    ...versions.filter((version) => version !== chosen).map((version) => ({ value: `@${version.version}`, text: `version ${version.version}` })),
    ...same.map((model) => ({ value: `${model.name}@${model.version}`, text: `${model.name}, version ${model.version}` })),
  ];
  const result = h("div", { "aria-live": "polite" });
  const other = h("select", { id: "other", onchange: () => { result.replaceChildren(); } }, others.map(({ value, text }) => h("option", { value }, text)));
  const compare = async () => {
    const [otherName, b] = other.value.split("@");
    const search = new URLSearchParams({ a: chosen.version, b, ...(otherName && { other: otherName }) });
    fill(result, loading("Asking both about every test image"));
    try {
      fill(result, ...verdict(await get(api(name, `/compare?${search}`))));
    } catch (error) {
      fill(result, withoutTestSet(error, compare));
    }
  };
  return h("section", { "aria-labelledby": "compare-title" }, h("h2", { id: "compare-title" }, `Compare version ${chosen.version}`),
    others.length
      ? h("form.line.compare", { onsubmit: (event) => { event.preventDefault(); compare(); } }, h("label", { for: "other" }, "with"), other, h("button", { type: "submit" }, "Compare"))
      : note("empty", "Nothing to compare with", "Train another version first."),
    result);
}

function verdict({ a, b, images, agreement, only_a: onlyA, only_b: onlyB, p, differ }) {
  const short = (side) => (a.model === b.model ? `v${side.version}` : side.model);
  const title = (side) => (a.model === b.model ? `version ${side.version}` : `${side.model} ${side.version}`);
  const chance = p < 0.05 ? "too small for chance alone" : "chance alone could do that";
  const shown = p < 0.0001 ? "< 0.0001" : `= ${p.toFixed(4)}`;
  return [
    h("div.versus", [a, b].map((side, index) => h("div", h("p.figure", percent(side.accuracy), h("small", title(side))), h("p.fine", `alone right on ${count(index ? onlyB : onlyA)}`)))),
    h("p", `They agree on ${percent(agreement)} of ${count(images)} images. McNemar’s p ${shown}: ${chance}.`),
    differ.length > 0 && gallery("Where they differ", differ.map((each) => h("li",
      h("img.pixels", { src: each.image, alt: `Test image ${each.index}, a ${each.true}`, width: 28, height: 28, loading: "lazy" }),
      h("p", "is ", h("b", each.true)),
      [[a, each.a, each.probability_a], [b, each.b, each.probability_b]].map(([side, label, probability]) =>
        h("p.fine", `${short(side)}: `, h(label === each.true ? "b.good" : "b.bad", label), ` ${percent(probability, 0)}`))))),
  ].filter(Boolean);
}

const doer = (who) => (who.startsWith("job ") ? h("a", { href: `#/train/${who.slice(4)}` }, "a run") : who);

function history(audit) {
  if (!audit.length) return h("span");
  const told = ({ action, alias, from_version: from, to_version: version }) => ({
    publish: `version ${version} made`,
    delete: `version ${from} deleted`,
    keep: `${alias} stayed at ${version}`,
    rollback: `${alias} rolled back to ${version}`,
  })[action] ?? `${alias} moved ${from ? `from ${from} ` : ""}to ${version}`;
  return h("section", { "aria-labelledby": "history-title" }, h("h2", { id: "history-title" }, "History"),
    h("ol.history", { role: "list" }, audit.slice(0, 30).map((row) => h("li",
      h("time.fine", { datetime: row.at }, when(row.at)),
      h("span", `${told(row)[0].toUpperCase()}${told(row).slice(1)}`,
        h("span.fine", " by ", doer(row.who), row.why && `: ${row.why.replace(/^job \w+:? /, "")}`))))));
}

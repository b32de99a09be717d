// Models: what is served, every version, its mistakes, and two versions side by side.

import { change, get, service } from "./api.js";
import { comparison } from "./compare.js";
import { api, mistakesOf } from "./mistakes.js";
import { $, act, count, fill, h, loading, percent, plural, trouble, when } from "./dom.js";

const PRODUCTION = "production";
let words = [];
let query = new URLSearchParams();
let drawn = 0; // what was asked for before is not shown any more

export function start() {
  service.addEventListener("back", () => {
    if (!$("models").hidden) show(words, query);
  });
}

/** #/models, #/models/NAME, #/models/NAME/VERSION. */
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

async function showShelf() {
  const models = await get("/models");
  const cards = await Promise.all(
    models.map(async (model) => ({
      model,
      card: await get(api(model.name)),
      versions: await get(api(model.name, "/versions")),
    })),
  );
  return [
    h(
      "ul.shelf",
      { role: "list" },
      cards.map(({ model, card, versions }) =>
        h(
          "li.sheet.model-card",
          h(
            "header",
            h("h2", h("a", { href: to(model.name) }, model.name)),
            model.default && h("span.tag", "default"),
          ),
          h(
            "p.figure",
            percent(model.accuracy),
            h("small", `of ${card.metrics.test ? count(card.metrics.test.images) : "no"} test images`),
          ),
          facts(card, [
            ["Data", model.dataset ?? "–"],
            ["Layers", model.architecture],
          ]),
          h("p.fine", `Version ${model.version} of ${versions.length} serves`),
        ),
      ),
    ),
  ];
}

function facts(card, before = [], after = []) {
  const test = card.metrics.test;
  const calibrated = test?.calibrated ?? test?.uncalibrated;
  const rows = [
    ...before,
    ["Parameters", count(card.parameters)],
    ["Calibration error", calibrated ? percent(calibrated.ece) : "–"],
    ...after,
  ];
  return h(
    "dl.facts",
    rows.map(([term, text]) => h("div", h("dt", term), h("dd", text))),
  );
}

async function showModel(name, number) {
  const [versions, models, audit] = await Promise.all([
    get(api(name, "/versions")),
    get("/models"),
    get(api(name, "/audit")).catch(() => []),
  ]);
  const production = versions.find((version) => version.aliases.includes(PRODUCTION));
  const chosen = versions.find((version) => version.version === number) ?? production ?? versions[0];
  const cards = await Promise.all(
    versions.map((version) => get(api(`${name}@${version.version}`)).catch(() => null)),
  );
  const said = h("p.problem", { role: "alert" });
  const say = (text) => fill(said, text);
  const anew = () => show(words, query);
  const before =
    production &&
    versions.length > 1 &&
    act(
      "Roll back",
      async () => {
        await change("POST", api(name, "/rollback"), { why: "from the page" });
        await anew();
      },
      { say },
    );
  return [
    back(),
    h(
      "section",
      { "aria-labelledby": "versions-title" },
      h(
        "div.line",
        h("h2", { id: "versions-title" }, "Versions"),
        h("p.actions", before, h("a", { href: `#/train?model=${encodeURIComponent(name)}` }, "Train another")),
      ),
      said,
      h(
        "ul.versions",
        { role: "list" },
        versions.map((version, index) =>
          versionCard(name, version, cards[index], version === chosen, say, anew),
        ),
      ),
    ),
    mistakesOf(name, chosen.version),
    comparison(name, versions, models, chosen),
    history(audit),
  ];
}

function versionCard(name, version, card, chosen, say, anew) {
  const serving = version.aliases.includes(PRODUCTION);
  const path = api(name, `/aliases/${PRODUCTION}`);
  const serve = act(
    "Serve",
    async () => {
      await change("PUT", path, { version: version.version, why: "from the page" });
      await anew();
    },
    { say },
  );
  const remove = act(
    "Delete",
    async () => {
      await change("DELETE", api(name, `/versions/${version.version}`));
      await anew();
    },
    { say, kind: "quiet", sure: true },
  );
  const trained = card?.training;
  return h(
    "li.sheet.version-card",
    { "data-version": version.version, "data-chosen": chosen },
    h(
      "header",
      h(
        "h3",
        h(
          "a",
          { href: to(name, version.version), "aria-current": chosen ? "true" : null },
          `Version ${version.version}`,
        ),
      ),
      version.aliases.map((alias) => h("span.tag", { "data-alias": alias }, alias)),
    ),
    h("p.figure", percent(version.accuracy)),
    card &&
      facts(
        card,
        [],
        [
          ["Trained by", trained ? `${trained.recipe}, ${plural(trained.epochs, "epoch")}` : "–"],
          ["Made", when(version.created_at)],
        ],
      ),
    h(
      "p.fine",
      version.job
        ? ["From ", h("a", { href: `#/train/${version.job}` }, "this run")]
        : "Shipped with the service",
    ),
    (!serving || !version.aliases.length) &&
      h("p.actions", !serving && serve, !version.aliases.length && remove),
  );
}

const doer = (who) => (who.startsWith("job ") ? h("a", { href: `#/train/${who.slice(4)}` }, "a run") : who);

function history(audit) {
  if (!audit.length) return h("span");
  const told = ({ action, alias, from_version: from, to_version: version }) =>
    ({
      publish: `version ${version} made`,
      delete: `version ${from} deleted`,
      keep: `${alias} stayed at ${version}`,
      rollback: `${alias} rolled back to ${version}`,
    })[action] ?? `${alias} moved ${from ? `from ${from} ` : ""}to ${version}`;
  return h(
    "section",
    { "aria-labelledby": "history-title" },
    h("h2", { id: "history-title" }, "History"),
    h(
      "ol.history",
      { role: "list" },
      audit
        .slice(0, 30)
        .map((row) =>
          h(
            "li",
            h("time.fine", { datetime: row.at }, when(row.at)),
            h(
              "span",
              `${told(row)[0].toUpperCase()}${told(row).slice(1)}`,
              h("span.fine", " by ", doer(row.who), row.why && `: ${row.why.replace(/^job \w+:? /, "")}`),
            ),
          ),
        ),
    ),
  );
}

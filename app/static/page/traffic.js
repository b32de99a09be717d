// How the requests for a model are shared among its aliases, and how a candidate in the shadow compares.

import { act, fill, h } from "./dom.js";
import { listTable } from "./list.js";
import { modelPath, pageOf } from "./paths.js";
import { count, percent, plural, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

/**
 * @param {Api} api
 * @param {Wire.TrafficBody[]} found
 */
export function traffic(api, found) {
  if (!found.length) {
    return [h("p.fine", "Every model answers with the version in production, and no candidate is compared.")];
  }
  return [
    h(
      "ul.mixes",
      { role: "list" },
      found.map((one) => shared(api, one)),
    ),
  ];
}

/**
 * @param {Api} api
 * @param {Wire.TrafficBody} one
 */
function shared(api, one) {
  const { model, since, ended_at: ended, who, why } = one;
  const { end, said, verdict } = controls(api, model, since);
  const begun = `since ${when(since)}, by ${who}${why ? `: ${why}` : ""}`;
  return h(
    "li.mix",
    { "data-traffic": model },
    h(
      "header",
      h("h3", h("a", { href: pageOf(model) }, model)),
      h("span.tag", ended ? "ended" : "goes on"),
      h("span.fine", ended ? `ended ${when(ended)}: ${why}` : begun),
      !ended && end,
    ),
    said,
    aliases(one),
    one.shadow && shadow(one.shadow),
    one.shadow && verdict,
  );
}

/** @type {Map<string, { end: HTMLElement, said: HTMLElement, verdict: HTMLElement }>} */
const kept = new Map();

/**
 * What can be pressed, and what it has said: it stays as it is when the view is drawn anew.
 * @param {Api} api
 * @param {string} model
 * @param {string} since
 */
function controls(api, model, since) {
  const key = `${model} ${since}`;
  const said = h("p.problem", { role: "alert" });
  const stop = () => api.change("DELETE", modelPath(model, "/traffic"));
  const end = act("End it", stop, { say: (text) => fill(said, text), sure: true });
  const found = kept.get(key) ?? { end, said, verdict: corrections(api, model) };
  kept.set(key, found);
  return found;
}

/** @param {Wire.TrafficBody} one */
function aliases({ shares, answers, failed }) {
  const head = ["Alias", "Share", "Answers", "Failed"];
  const rows = Object.entries(shares).map(([alias, share]) => [
    alias,
    `${share} %`,
    count(answers[alias]),
    count(failed[alias]),
  ]);
  return listTable("Shares", head, rows);
}

/** @param {Wire.ShadowBody} found */
function shadow(found) {
  const { alias, compared, agreement, failed, dropped } = found;
  if (!compared && !failed) return h("p.fine", `${alias} is in the shadow: nothing was compared yet.`);
  const ms = (/** @type {number | null} */ value) => (value === null ? "–" : `${value.toFixed(2)} ms`);
  return h(
    "div.part",
    h(
      "p",
      `${alias} in the shadow agrees on ${percent(agreement, 1)} of ${plural(compared, "input")}; `,
      `${count(failed)} failed, ${count(dropped)} were not compared for want of time.`,
    ),
    listTable(
      "Production and candidate",
      ["", "Confidence", "Forward pass of one input"],
      [
        ["production", percent(found.confidence, 1), ms(found.ms)],
        [alias, percent(found.candidate_confidence, 1), ms(found.candidate_ms)],
      ],
    ),
  );
}

/**
 * Who is right where people have corrected: asked for by a button, since the candidate answers them anew.
 * @param {Api} api
 * @param {string} model
 */
function corrections(api, model) {
  const told = h("p.fine", { role: "status" });
  const ask = async () => {
    /** @type {Wire.TrafficDetail} */
    const { corrections: found } = await api.get(modelPath(model, "/traffic"));
    fill(told, found ? inWords(found) : "This service keeps no corrections.");
  };
  return h("div.line", act("Compare on corrections", ask, { say: (text) => fill(told, text) }), told);
}

/** @param {Wire.CorrectionsBody} found */
function inWords({ count: number, only_production: mine, only_candidate: theirs, p }) {
  if (!number) return "Nobody has corrected an answer since then.";
  const sure = p < 0.05 ? "chance hardly explains that" : "that may be chance";
  return (
    `Of ${plural(number, "correction")}, only production is right on ${count(mine)}, ` +
    `only the candidate on ${count(theirs)}: ${sure} (McNemar, p = ${p.toFixed(3)}).`
  );
}

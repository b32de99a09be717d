// Two versions, or two models, on the same test images.

import { get } from "./api.js";
import { api, gallery, withoutTestSet } from "./mistakes.js";
import { count, fill, h, loading, note, percent } from "./dom.js";

/** Asks for another version or model, and tells how the two differ. */
export function comparison(name, versions, models, chosen) {
  const served = models.find((model) => model.name === name);
  const same = models.filter((model) => model.name !== name && model.dataset === served?.dataset);
  const others = [
    ...versions
      .filter((version) => version !== chosen)
      .map((version) => ({ value: `@${version.version}`, text: `version ${version.version}` })),
    ...same.map((model) => ({
      value: `${model.name}@${model.version}`,
      text: `${model.name}, version ${model.version}`,
    })),
  ];
  const result = h("div", { "aria-live": "polite" });
  const other = h(
    "select",
    {
      id: "other",
      onchange: () => {
        result.replaceChildren();
      },
    },
    others.map(({ value, text }) => h("option", { value }, text)),
  );
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
  return h(
    "section",
    { "aria-labelledby": "compare-title" },
    h("h2", { id: "compare-title" }, `Compare version ${chosen.version}`),
    others.length
      ? h(
          "form.line.compare",
          {
            onsubmit: (event) => {
              event.preventDefault();
              compare();
            },
          },
          h("label", { for: "other" }, "with"),
          other,
          h("button", { type: "submit" }, "Compare"),
        )
      : note("empty", "Nothing to compare with", "Train another version first."),
    result,
  );
}

function verdict({ a, b, images, agreement, only_a: onlyA, only_b: onlyB, p, differ }) {
  const short = (side) => (a.model === b.model ? `v${side.version}` : side.model);
  const title = (side) => (a.model === b.model ? `version ${side.version}` : `${side.model} ${side.version}`);
  const chance = p < 0.05 ? "too small for chance alone" : "chance alone could do that";
  const shown = p < 0.0001 ? "< 0.0001" : `= ${p.toFixed(4)}`;
  return [
    h(
      "div.versus",
      [a, b].map((side, index) =>
        h(
          "div",
          h("p.figure", percent(side.accuracy), h("small", title(side))),
          h("p.fine", `alone right on ${count(index ? onlyB : onlyA)}`),
        ),
      ),
    ),
    h("p", `They agree on ${percent(agreement)} of ${count(images)} images. McNemar’s p ${shown}: ${chance}.`),
    differ.length > 0 &&
      gallery(
        "Where they differ",
        differ.map((each) =>
          h(
            "li",
            h("img.pixels", {
              src: each.image,
              alt: `Test image ${each.index}, a ${each.true}`,
              width: 28,
              height: 28,
              loading: "lazy",
            }),
            h("p", "is ", h("b", each.true)),
            [
              [a, each.a, each.probability_a],
              [b, each.b, each.probability_b],
            ].map(([side, label, probability]) =>
              h(
                "p.fine",
                `${short(side)}: `,
                h(label === each.true ? "b.good" : "b.bad", label),
                ` ${percent(probability, 0)}`,
              ),
            ),
          ),
        ),
      ),
  ].filter(Boolean);
}

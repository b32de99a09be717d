// The layers of a version: what they are, what they give, how much they have learned.

import { fill, h, loading, trouble } from "./dom.js";
import { modelPath } from "./paths.js";
import { count, plural } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

/**
 * @param {Api} api
 * @param {string} name
 * @param {number} version
 */
export function layersOf(api, name, version) {
  const body = h("div");
  const load = async () => {
    fill(body, loading("Asking the model"));
    try {
      fill(body, table(await api.get(modelPath(`${name}@${version}`, "/layers"))));
    } catch (error) {
      fill(body, trouble(error, load));
    }
  };
  const ontoggle = () => body.childElementCount || load();
  return h("details.layers", { ontoggle }, h("summary", `Layers of version ${version}`), body);
}

/** @param {Wire.LayerBody[]} layers */
function table(layers) {
  const all = layers.reduce((sum, { parameters }) => sum + parameters, 0);
  return h(
    "div.wide",
    { tabindex: "0", role: "region", "aria-label": "Layers" },
    h(
      "table.runs",
      h(
        "caption",
        `${plural(layers.length, "layer")}, ${count(all)} parameters. Shapes are those of one input.`,
      ),
      h(
        "thead",
        h(
          "tr",
          ["Name", "Type", "Gives", "Parameters"].map((title) => h("th", { scope: "col" }, title)),
        ),
      ),
      h(
        "tbody",
        layers.map(({ name, type, output, parameters }) =>
          h(
            "tr",
            h("th", { scope: "row" }, name || "(the model)"),
            h("td", type),
            h("td", output ? output.join(" × ") : "–"),
            h("td", count(parameters)),
          ),
        ),
      ),
    ),
  );
}

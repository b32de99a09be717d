// Correct me: the right label for a picture, and what was kept of such.

import { change, get, key, needKey, request } from "./api.js";
import { act, bytes, count, fill, h, plural, when } from "./dom.js";

export class Corrections {
  constructor(box, list) {
    this.box = box; // below the answers
    this.list = list; // below the view
    this.done = h("p.done", { role: "status" });
  }

  hide() {
    this.box.hidden = true;
  }

  /** Asks for the right label, where the service remembers its answers. */
  offer(results, classes) {
    const ids = results.map((result) => result.id);
    if (!ids.every(Boolean)) {
      this.hide();
      return;
    }
    this.results = results;
    this.done.replaceChildren();
    const buttons = classes.map((label) =>
      act(label, () => this.#correct(label), { say: (text) => fill(this.done, text) }),
    );
    fill(
      this.box,
      h("h2.minor", { id: "correct-title" }, "Wrong? It was a …"),
      h("div.labels", { role: "group", "aria-labelledby": "correct-title" }, buttons),
      h("p.fine", "The picture is then kept on this service, to train on."),
      this.done,
    );
    this.box.hidden = false;
  }

  async #correct(label) {
    const wrong = this.results.filter((result) => result.label !== label);
    if (!wrong.length) {
      fill(this.done, this.results.length > 1 ? "That is what they say." : "That is what it says.");
      return;
    }
    for (const result of wrong) await change("POST", "/feedback", { prediction: result.id, label });
    const state = await this.refresh();
    const name = wrong[0].model;
    const waiting = state?.waiting?.[name] ?? wrong.length;
    fill(
      this.done,
      `Thank you: kept as ${label} for ${wrong.map((result) => result.model).join(" and ")}. ${plural(waiting, "correction")} ${waiting === 1 ? "waits" : "wait"} for ${name}. `,
      h("a", { href: `#/train?model=${encodeURIComponent(name)}&feedback=true` }, "Train on them"),
    );
  }

  /** What is kept; pictures only with a key, for they are people's. */
  async refresh() {
    let state;
    try {
      state = await get("/feedback?limit=60");
    } catch {
      this.list.replaceChildren(); // a service that keeps none
      return null;
    }
    if (!state.enabled && !state.count) {
      this.list.replaceChildren();
      return state;
    }
    const waiting = Object.entries(state.waiting ?? {}).filter(([, number]) => number);
    const said = h("p.problem", { role: "alert" });
    const say = (text) => fill(said, text);
    const open = h("div.kept-items");
    const show = act(
      "Show them",
      async () => {
        if (!key.value && !(await needKey())) return;
        await this.#open();
      },
      { say },
    );
    fill(
      this.list,
      h(
        "section.kept",
        { "aria-labelledby": "kept-title" },
        h("h2.minor", { id: "kept-title" }, "Corrections"),
        state.count
          ? h(
              "p",
              `${plural(state.count, "picture")} kept (${bytes(state.bytes)} of ${bytes(state.limit.bytes)}, ${count(state.limit.count)} at most). `,
              waiting.length
                ? `Waiting to be trained on: ${waiting.map(([name, number]) => `${name} ${count(number)}`).join(", ")}.`
                : "All of them were trained on.",
            )
          : h("p.fine", "None yet. Draw something that a model gets wrong, and tell it what it was."),
        state.count > 0 &&
          h(
            "p.actions",
            !this.opened && show,
            act("Export", () => this.#export(), { say }),
            act(
              "Delete all",
              async () => {
                await change("DELETE", "/feedback");
                await this.refresh();
              },
              { say, sure: true },
            ),
          ),
        said,
        open,
      ),
    );
    if (this.opened && state.count) fill(open, this.#items(state.items, say));
    return state;
  }

  async #open() {
    this.opened = true;
    await this.refresh();
  }

  #items(items, say) {
    return h(
      "ul.gallery",
      { role: "list" },
      items.map((item) =>
        h(
          "li",
          h("img.pixels", {
            src: item.image,
            alt: `${item.label}, taken for ${item.predicted}`,
            width: 28,
            height: 28,
          }),
          h("p", h("b", item.label), ` not ${item.predicted}`),
          h(
            "p.fine",
            `${item.model} ${item.version}, ${when(item.created)}${item.used_by ? ", trained on" : ""}`,
          ),
          act(
            "Delete",
            async () => {
              await change("DELETE", `/feedback/${encodeURIComponent(item.id)}`);
              await this.refresh();
            },
            { say, kind: "quiet" },
          ),
        ),
      ),
    );
  }

  async #export() {
    const url = URL.createObjectURL(await (await request("/feedback/export")).blob());
    h("a", { href: url, download: "feedback.zip" }).click();
    URL.revokeObjectURL(url);
  }
}

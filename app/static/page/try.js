// Try: a picture or a row, and what the chosen models say of it while it is drawn or filled in.

import { Answer, isDoubted } from "./answer.js";
import { Camera } from "./camera.js";
import { blobOf, unpack } from "./carry.js";
import { Choice } from "./choice.js";
import { Command } from "./command.js";
import { Corrections } from "./correct.js";
import { $, fill, h, loading, trouble } from "./dom.js";
import { Drawing } from "./draw.js";
import { route } from "./route.js";
import { RowForm } from "./row.js";
import { NumberReading } from "./number.js";
import { ManyRows } from "./many.js";
import { Samples } from "./samples.js";
import { subjectNamed } from "./subjects.js";
import { percent } from "./text.js";
import { told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Picture } from "./answer.js" */

const GAP = 50; // ms between two requests while a stroke goes on
const PAUSE = 300; // ms without a change, after which explanations are asked for and the result is announced

export class TryView {
  /** @type {Answer[]} */
  #answers = []; // of the chosen models
  #number = 0; // of the picture
  #sentAt = 0;
  #gap = 0; // timers
  #pause = 0;
  #rows = false; // whether the chosen models take the rows of a table
  #columns = Promise.resolve(); // until their form is there
  /** @type {string[]} */
  #asked = []; // by the address

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.choice = new Choice(api);
    this.drawing = new Drawing($("canvas", HTMLCanvasElement), $("pen"));
    this.camera = new Camera($("viewfinder", HTMLVideoElement));
    this.command = new Command(api, $("request"));
    this.corrections = new Corrections(api, $("correct"), $("corrections"));
    this.number = new NumberReading(api, $("number"));
    this.samples = new Samples(api, $("samples-title"), $("samples"), (picture, name) =>
      this.drawing.place(picture, name),
    );
    this.drawing.addEventListener("change", () => this.#changed(this.drawing.drawing));
    this.row = new RowForm($("row"));
    this.row.addEventListener("change", () => this.#changed(false));
    this.many = new ManyRows(api, $("many"));
    api.addEventListener("back", () => (this.choice.loaded ? this.#changed(false) : this.#load()));
    this.#tools();
    this.#dropAndPaste();
  }

  /**
   * Models may have changed since the view was shown before.
   * @param {string[]} _
   * @param {URLSearchParams} query
   */
  async show(_, query) {
    const refs = query.getAll("model").flatMap((value) => value.split(","));
    this.#asked = refs.filter(Boolean);
    await this.#load();
    await this.#unpack();
    this.corrections.refresh();
  }

  /** What another view has sent along. */
  async #unpack() {
    const carried = unpack();
    if (!carried) return;
    if (carried.row && this.#rows) {
      await this.#columns;
      this.row.take(carried.row);
    } else if (carried.image) {
      this.drawing.clear();
      await this.drawing.place(blobOf(carried.image), `${carried.name.replaceAll(" ", "-")}.png`);
    }
  }

  /** What is asked about. */
  get #source() {
    return this.#rows ? this.row : this.drawing;
  }

  leave() {
    this.#showLive(false);
  }

  async #load() {
    if (!this.choice.loaded) fill($("answers"), loading("Reading the list of models"));
    /** @type {string[]} */
    let unknown;
    try {
      unknown = await this.choice.load(this.#asked);
    } catch (error) {
      if (!this.choice.loaded)
        fill(
          $("answers"),
          trouble(error, () => this.#load()),
        );
      return;
    }
    this.#showSubject();
    $("unknown").textContent = unknown.length ? `There is no model ${unknown.join(", ")} here.` : "";
  }

  #tools() {
    $("undo").onclick = () => this.drawing.undo();
    $("clear").onclick = () => {
      this.#showLive(false);
      this.drawing.clear();
    };
    $("watch-camera").onclick = () => this.#live();
    const width = $("width", HTMLInputElement);
    width.oninput = () => {
      this.drawing.width = Number(width.value);
    };
    for (const input of [$("file", HTMLInputElement), $("camera", HTMLInputElement)]) {
      input.onchange = async () => {
        await this.#take(input.files);
        input.value = "";
      };
    }
  }

  /** The first press starts the camera, the second takes a picture. */
  async #live() {
    $("pad-problem").textContent = "";
    try {
      if (this.camera.on) {
        const picture = await this.camera.take();
        this.#showLive(false);
        await this.drawing.place(picture, "camera.jpg");
      } else {
        await this.camera.start();
        this.#showLive(true);
      }
    } catch (error) {
      this.#showLive(false);
      $("pad-problem").textContent = told(error);
    }
  }

  /** @param {boolean} on */
  #showLive(on) {
    if (!on && this.camera.on) this.camera.stop();
    $("viewfinder").hidden = !on;
    $("watch-camera").textContent = on ? "Take the picture" : "Camera";
    if (on) $("clear", HTMLButtonElement).disabled = false;
  }

  #showSubject() {
    const { choice } = this;
    const { title, drawn } = subjectNamed(choice.subject);
    this.#rows = choice.chosen[0]?.input === "table";
    $("try-title").textContent = this.#rows ? "Fill in a row" : title;
    $("bench").dataset.takes = this.#rows ? "rows" : "pictures";
    for (const id of ["pad-side", "more-side"]) $(id).hidden = this.#rows;
    for (const id of ["row-side", "many"]) $(id).hidden = !this.#rows;
    this.#offerPictures(!drawn);
    fill(
      $("subjects"),
      choice.subjects.map((subject) => this.#subject(subject)),
    );
    $("subjects").hidden = choice.subjects.length < 2;
    this.#showChoice();
  }

  /**
   * What is not drawn by hand comes as a file or by the camera: these come first then.
   * @param {boolean} first
   */
  #offerPictures(first) {
    this.#showLive(false);
    $("pad").dataset.takes = first ? "pictures" : "drawings";
    const [file, photo] = [$("file"), $("camera")].map((input) => input.closest("label"));
    if (file && photo) $("tools")[first ? "prepend" : "append"](file, photo, $("watch-camera"));
    fill(
      $("pad-hint"),
      first ? "Drop a picture, or paste one" : "Draw here",
      h("small", first ? "or draw" : "or drop a picture, or paste one"),
    );
  }

  /** @param {string} subject */
  #subject(subject) {
    const turn = () => {
      this.choice.turnTo(subject);
      this.drawing.clear();
      this.#showSubject();
    };
    const pressed = String(subject === this.choice.subject);
    const { name } = subjectNamed(subject);
    return h("button", { type: "button", "aria-pressed": pressed, onclick: turn }, name);
  }

  #showChoice() {
    const { models, chosen } = this.choice;
    fill(
      $("chosen"),
      h("legend", "Models"),
      models.map(({ ref, accuracy }) => {
        const box = h("input", { type: "checkbox", value: ref });
        box.checked = chosen.some((model) => model.ref === ref);
        box.onchange = () => {
          this.choice.set(ref, box.checked);
          box.checked = this.choice.chosen.some((model) => model.ref === ref);
          this.#showAnswers();
        };
        return h("label", box, h("span", ref, h("small", percent(accuracy, 1))));
      }),
    );
    this.#showAnswers();
  }

  #showAnswers() {
    const keyOf = (/** @type {{ ref: string, version: number | null }} */ model) =>
      `${model.ref} ${model.version}`;
    const kept = new Map(this.#answers.map((answer) => [keyOf(answer.model), answer]));
    const { chosen } = this.choice;
    this.#answers = chosen.map((model) => kept.get(keyOf(model)) ?? new Answer(this.api, model));
    fill(
      $("answers"),
      this.#answers.map((answer) => answer.element),
    );
    $("answers").dataset.count = String(this.#answers.length);
    if (this.#rows) this.#columns = this.#showRow(chosen[0]?.ref ?? "");
    else this.samples.show(chosen[0]?.dataset ?? null);
    this.#keepAddress();
    this.#changed(false);
  }

  /** Not where another view was asked for: the page hears of that later, and would look for it here. */
  #keepAddress() {
    if ($("try").hidden || route().view !== "try") return;
    history.replaceState(null, "", this.choice.address);
  }

  /**
   * The form has the columns of the first of the chosen models.
   * @param {string} ref
   */
  async #showRow(ref) {
    if (this.many.model !== ref) this.many.clear();
    this.many.model = ref;
    try {
      /** @type {Wire.Card} */
      const { input } = await this.api.get(`models/${encodeURIComponent(ref)}`);
      if (input.kind === "table" && this.many.model === ref) this.row.show(input.columns);
    } catch (error) {
      fill(
        $("row"),
        trouble(error, () => this.#showRow(ref)),
      );
    }
  }

  /**
   * The picture is another one: ask about it, during a stroke not more often than every GAP.
   * @param {boolean} drawing
   */
  #changed(drawing) {
    this.#number += 1;
    clearTimeout(this.#pause);
    const { empty } = this.#source;
    $("pad-hint").hidden = !this.drawing.empty;
    $("undo", HTMLButtonElement).disabled = !this.drawing.canUndo;
    $("clear", HTMLButtonElement).disabled = this.drawing.empty;
    $("pad-problem").textContent = "";
    this.corrections.hide();
    this.number.hide();
    if (drawing && !empty) {
      this.#gap ||= setTimeout(() => this.#send(), Math.max(0, this.#sentAt + GAP - performance.now()));
      return;
    }
    clearTimeout(this.#gap);
    this.#gap = 0;
    if (empty) {
      this.#reset();
      return;
    }
    this.#send();
    this.#pause = setTimeout(() => this.#settled(), PAUSE);
  }

  #reset() {
    for (const answer of this.#answers) answer.reset(this.#number);
    $("said").textContent = "";
    this.command.hide();
  }

  async #send() {
    this.#gap = 0;
    this.#sentAt = performance.now();
    const picture = await this.#picture();
    if (this.#source.empty) return;
    for (const answer of this.#answers) answer.ask(picture);
  }

  /** @returns {Promise<Picture>} */
  async #picture() {
    const number = this.#number;
    return { number, ...(await this.#source.picture()) };
  }

  /** The pen rests: explanations, the announcement, the command. */
  async #settled() {
    const picture = await this.#picture();
    const outdated = () => picture.number !== this.#number || this.#source.empty;
    const [first] = this.#answers;
    if (outdated() || !first) return;
    this.command.show(picture, first.path());
    await Promise.all(this.#answers.map((answer) => answer.ask(picture, true)));
    if (outdated()) return;
    const results = this.#answers.map(({ result }) => result).filter((result) => result !== null);
    if (first.result?.warning?.type === "several") this.number.show(picture, first.model);
    if (results.length) this.corrections.offer(results, first.model.classes);
    $("said").textContent = this.#answers.map(spoken).filter(Boolean).join(" ");
  }

  /** @param {FileList | undefined | null} files */
  async #take(files) {
    const all = [...(files ?? [])];
    if (this.#rows) {
      const [table] = all;
      if (table) await this.many.send(table, table.name);
      return;
    }
    const file = all.find(({ type }) => type.startsWith("image/")) ?? all[0];
    if (!file) return;
    try {
      await this.drawing.place(file, file.name || "pasted.png");
    } catch {
      $("pad-problem").textContent = `${file.name || "This"} is not a picture that this browser can show.`;
    }
  }

  /**
   * A table, as text; what has one line is for the control that has the focus.
   * @param {string} text
   */
  #pasted(text) {
    if (text.trim().includes("\n")) this.many.send(new Blob([text]), "pasted.csv");
  }

  #dropAndPaste() {
    const view = $("try");
    const over = (/** @type {boolean} */ on) => {
      for (const id of ["pad", "many"]) $(id).classList.toggle("over", on);
    };
    view.addEventListener("dragover", (event) => {
      event.preventDefault();
      over(true);
    });
    view.addEventListener("dragleave", () => over(false));
    view.addEventListener("drop", (event) => {
      event.preventDefault();
      over(false);
      this.#take(event.dataTransfer?.files);
    });
    document.addEventListener("paste", (event) => {
      if (view.hidden || !event.clipboardData) return;
      if (event.clipboardData.files.length) this.#take(event.clipboardData.files);
      else if (this.#rows) this.#pasted(event.clipboardData.getData("text/plain"));
    });
  }
}

/**
 * What a screen reader says of an answer.
 * @param {Answer} answer
 */
function spoken({ model, result, problem }) {
  if (result && isDoubted(result)) return `${model.ref}: unlike what it has learned; at best ${result.label}.`;
  if (result) return `${model.ref}: ${result.label}, ${percent(result.probability, 0)}.`;
  return problem.textContent ? `${model.ref}: ${problem.textContent}` : "";
}

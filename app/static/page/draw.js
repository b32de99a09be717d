// The drawing surface: strokes by mouse, touch, pen and keyboard, or a picture; light ink on a dark ground.

import { readPicture } from "./picture.js";

/** @typedef {{ x: number, y: number }} Point */
/** @typedef {{ kind: "stroke", points: Point[], width: number }} Stroke */
/** @typedef {{ kind: "picture", bitmap: ImageBitmap, blob: Blob, name: string }} Placed */
/** @typedef {Stroke | Placed | { kind: "clear" }} Item */

const SIZE = 420; // 15 for each pixel that the models see
const STEP = SIZE / 28;
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Says "change"; `drawing` is true while a stroke goes on. */
export class Drawing extends EventTarget {
  /** @type {Item[]} */
  #items = []; // all of them can be undone
  /** @type {Stroke | null} */
  #stroke = null;
  /** @type {Point} */
  #pen = { x: SIZE / 2, y: SIZE / 4 };
  width = 32;
  drawing = false;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} ring shows where the pen of the keyboard is
   */
  constructor(canvas, ring) {
    super();
    canvas.width = canvas.height = SIZE;
    this.canvas = canvas;
    this.ring = ring;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("this browser draws no pictures");
    this.context = context;
    this.#listen();
    this.#render();
  }

  get empty() {
    return this.#shown().length === 0;
  }

  get canUndo() {
    return this.#items.length > 0;
  }

  undo() {
    this.#stroke = null;
    this.#items.pop();
    this.#changed(false);
  }

  clear() {
    this.#stroke = null;
    if (!this.empty) this.#items.push({ kind: "clear" });
    this.#changed(false);
  }

  /**
   * Shows a picture instead of what was drawn. Raises where the browser cannot show it.
   * @param {Blob} file
   * @param {string} name
   */
  async place(file, name) {
    const picture = await readPicture(file, name);
    this.#stroke = null;
    this.#items.push({ kind: "picture", ...picture });
    this.#changed(false);
  }

  /**
   * What is there as a file: the picture itself where nothing was drawn on it.
   * @returns {Promise<{ blob: Blob, name: string }>}
   */
  async picture() {
    const last = this.#shown().at(-1);
    if (last?.kind === "picture") return { blob: last.blob, name: last.name };
    const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ done) =>
      this.canvas.toBlob(done, "image/png"),
    );
    if (!blob) throw new Error("this browser saves no pictures");
    return { blob, name: "drawing.png" };
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => {
      this.#lift();
      this.ring.hidden = true;
    });
  }

  /** What came after the last clearing, from the last picture on. */
  #shown() {
    const after = this.#items.slice(this.#items.findLastIndex(({ kind }) => kind === "clear") + 1);
    return after.slice(
      Math.max(
        0,
        after.findLastIndex(({ kind }) => kind === "picture"),
      ),
    );
  }

  /** @param {boolean} drawing */
  #changed(drawing) {
    this.#render();
    this.drawing = drawing;
    this.dispatchEvent(new Event("change"));
  }

  #render() {
    const { context } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    for (const item of this.#shown()) {
      if (item.kind === "picture") this.#paint(item.bitmap);
      else if (item.kind === "stroke") this.#line(item);
    }
  }

  /** @param {ImageBitmap} bitmap */
  #paint(bitmap) {
    const scale = SIZE / Math.max(bitmap.width, bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    this.context.imageSmoothingEnabled = scale < 4;
    this.context.drawImage(bitmap, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
  }

  /** @param {Stroke} stroke */
  #line({ points, width }) {
    const { context } = this;
    const [first, ...rest] = points;
    if (!first) return;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(first.x, first.y);
    for (const [index, point] of rest.entries()) {
      const next = rest[index + 1];
      if (next) context.quadraticCurveTo(point.x, point.y, (point.x + next.x) / 2, (point.y + next.y) / 2);
      else context.lineTo(point.x, point.y);
    }
    if (!rest.length) context.lineTo(first.x, first.y + 0.01);
    context.stroke();
  }

  /** @param {Point} point */
  #begin(point) {
    this.#stroke = { kind: "stroke", points: [point], width: this.width };
    this.#items.push(this.#stroke);
    this.#changed(true);
  }

  #lift() {
    if (!this.#stroke) return;
    this.#stroke = null;
    this.#changed(false);
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SIZE,
      y: ((event.clientY - box.top) / box.height) * SIZE,
    };
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.ring.hidden = true;
    this.#begin(this.#at(event));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.#stroke || !this.canvas.hasPointerCapture(event.pointerId)) return;
    const between = event.getCoalescedEvents?.() ?? [];
    this.#stroke.points.push(...(between.length ? between : [event]).map((each) => this.#at(each)));
    this.#changed(true);
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (event.isPrimary) this.#lift();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const arrow = ARROWS[event.key];
    const command = event.ctrlKey || event.metaKey;
    if (arrow && !command && !event.altKey) this.#step(arrow, event.shiftKey ? STEP / 3 : STEP);
    else if (event.key === " ") this.#stroke ? this.#lift() : this.#begin(this.#pen);
    else if (event.key === "Escape") this.#lift();
    else if (event.key === "Backspace" || (event.key === "z" && command)) this.undo();
    else if (event.key === "Delete") this.clear();
    else return;
    event.preventDefault();
    this.#showPen();
  }

  /**
   * @param {[number, number]} direction
   * @param {number} length
   */
  #step([right, down], length) {
    const inside = (/** @type {number} */ value) => Math.min(SIZE - STEP, Math.max(STEP, value));
    this.#pen = { x: inside(this.#pen.x + right * length), y: inside(this.#pen.y + down * length) };
    if (!this.#stroke) return;
    this.#stroke.points.push(this.#pen);
    this.#changed(true);
  }

  #showPen() {
    this.ring.hidden = false;
    this.ring.classList.toggle("down", this.#stroke !== null);
    this.ring.style.left = `${(this.#pen.x / SIZE) * 100}%`;
    this.ring.style.top = `${(this.#pen.y / SIZE) * 100}%`;
  }
}

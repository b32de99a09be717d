// The drawing surface: strokes by mouse, touch, pen and keyboard, or a picture; light ink on a dark ground.

const SIZE = 420; // 15 for each pixel that the models see
const STEP = SIZE / 28;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LARGEST = 900_000; // bytes; more is scaled down first, so that a photograph is answered at once
const TAKEN = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"];

/** Says "change"; its `drawing` is true while a stroke goes on. */
export class Drawing extends EventTarget {
  #items = []; // strokes {points, width}, pictures {bitmap, blob, name}, and {clear}: all of them can be undone
  #stroke = null;
  #pen = { x: SIZE / 2, y: SIZE / 4 };
  width = 32;

  constructor(canvas, ring) {
    super();
    canvas.width = canvas.height = SIZE;
    this.canvas = canvas;
    this.ring = ring; // where the pen of the keyboard is
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => {
      this.#lift();
      ring.hidden = true;
    });
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
    if (!this.empty) this.#items.push({ clear: true });
    this.#changed(false);
  }

  /** Shows a picture instead of what was drawn. Raises where the browser cannot read it. */
  async place(file, name) {
    const bitmap = await createImageBitmap(file);
    this.#stroke = null;
    const fits = TAKEN.includes(file.type) && file.size <= LARGEST;
    const blob = fits ? file : await smaller(bitmap);
    this.#items.push({ bitmap, blob, name: fits ? safe(name) : safe(name).replace(/\.\w*$/, "") + ".jpg" });
    this.#changed(false);
  }

  /** What is there as a file: the picture itself where nothing was drawn on it. */
  async picture() {
    const shown = this.#shown();
    const last = shown.at(-1);
    if (last?.blob) return { blob: last.blob, name: last.name };
    const blob = await new Promise((done) => this.canvas.toBlob(done, "image/png"));
    return { blob, name: "drawing.png" };
  }

  #shown() {
    const clear = this.#items.findLastIndex((item) => item.clear);
    const after = this.#items.slice(clear + 1);
    return after.slice(
      Math.max(
        0,
        after.findLastIndex((item) => item.bitmap),
      ),
    );
  }

  #changed(drawing) {
    this.#render();
    this.dispatchEvent(Object.assign(new Event("change"), { drawing }));
  }

  #render() {
    const context = this.context;
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    for (const item of this.#shown()) item.bitmap ? this.#paint(item.bitmap) : this.#line(item);
  }

  #paint(bitmap) {
    const scale = SIZE / Math.max(bitmap.width, bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    this.context.imageSmoothingEnabled = scale < 4;
    this.context.drawImage(bitmap, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
  }

  #line({ points, width }) {
    const context = this.context;
    const [first, ...rest] = points;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(first.x, first.y);
    rest.forEach((point, index) => {
      const next = rest[index + 1];
      if (next) context.quadraticCurveTo(point.x, point.y, (point.x + next.x) / 2, (point.y + next.y) / 2);
      else context.lineTo(point.x, point.y);
    });
    if (!rest.length) context.lineTo(first.x, first.y + 0.01);
    context.stroke();
  }

  #begin(point) {
    this.#stroke = { points: [point], width: this.width };
    this.#items.push(this.#stroke);
    this.#changed(true);
  }

  #lift() {
    if (!this.#stroke) return;
    this.#stroke = null;
    this.#changed(false);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SIZE,
      y: ((event.clientY - box.top) / box.height) * SIZE,
    };
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.ring.hidden = true;
    this.#begin(this.#at(event));
  }

  #move(event) {
    if (!this.#stroke || !this.canvas.hasPointerCapture(event.pointerId)) return;
    const between = event.getCoalescedEvents?.() ?? [];
    this.#stroke.points.push(...(between.length ? between : [event]).map((each) => this.#at(each)));
    this.#changed(true);
  }

  #up(event) {
    if (event.isPrimary) this.#lift();
  }

  #key(event) {
    const arrow = ARROWS[event.key];
    if (arrow && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const step = event.shiftKey ? STEP / 3 : STEP;
      const inside = (value) => Math.min(SIZE - STEP, Math.max(STEP, value));
      this.#pen = { x: inside(this.#pen.x + arrow[0] * step), y: inside(this.#pen.y + arrow[1] * step) };
      if (this.#stroke) {
        this.#stroke.points.push(this.#pen);
        this.#changed(true);
      }
    } else if (event.key === " ") this.#stroke ? this.#lift() : this.#begin(this.#pen);
    else if (event.key === "Escape") this.#lift();
    else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) this.undo();
    else if (event.key === "Delete") this.clear();
    else return;
    event.preventDefault();
    this.#showPen();
  }

  #showPen() {
    this.ring.hidden = false;
    this.ring.classList.toggle("down", this.#stroke !== null);
    this.ring.style.left = `${(this.#pen.x / SIZE) * 100}%`;
    this.ring.style.top = `${(this.#pen.y / SIZE) * 100}%`;
  }
}

/** A picture that the service takes, of one that is too large for it or of another kind. */
async function smaller(bitmap) {
  const scale = Math.min(1, 1000 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

/** A file name that needs no quotes in a shell. */
function safe(name) {
  return name.replace(/[^\w.]+/g, "-").replace(/^[-.]+/, "") || "picture.png";
}

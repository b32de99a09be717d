// A picture as the service takes it: what the browser can show, scaled down where it is large.

const TAKEN = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"];
const LARGEST = 900_000; // bytes; more is scaled down first, so that a photograph is answered at once
const MOST_PIXELS = 4_000_000;
const SIDE = 1000; // pixels of the longer side, scaled

/**
 * Raises where the browser cannot show it.
 * @param {Blob} file
 * @param {string} name
 */
export async function readPicture(file, name) {
  const image = await decode(file);
  const [width, height] = sizeOf(image);
  const fits = TAKEN.includes(file.type) && file.size <= LARGEST && width * height <= MOST_PIXELS;
  if (fits && image instanceof ImageBitmap) return { bitmap: image, blob: file, name: safe(name) };
  const canvas = scaled(image);
  if (image instanceof ImageBitmap) image.close();
  const kind = hasHoles(canvas) ? "png" : "jpeg";
  const blob = await canvas.convertToBlob({ type: `image/${kind}`, quality: 0.9 });
  const ending = kind === "png" ? ".png" : ".jpg";
  return { bitmap: await createImageBitmap(canvas), blob, name: safe(name).replace(/\.\w*$/, "") + ending };
}

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap | HTMLImageElement>}
 */
async function decode(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    return await element(file); // SVG, and what else only an element shows
  }
}

/** @param {Blob} file */
async function element(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
  } finally {
    URL.revokeObjectURL(image.src);
  }
  return image;
}

/**
 * @param {ImageBitmap | HTMLImageElement} image
 * @returns {[width: number, height: number]}
 */
function sizeOf(image) {
  if (image instanceof ImageBitmap) return [image.width, image.height];
  return [image.naturalWidth || SIDE, image.naturalHeight || SIDE];
}

/** @param {ImageBitmap | HTMLImageElement} image */
function scaled(image) {
  const [width, height] = sizeOf(image);
  const longest = Math.max(width, height);
  const scale = image instanceof ImageBitmap ? Math.min(1, SIDE / longest) : SIDE / longest;
  const pixels = (/** @type {number} */ length) => Math.max(1, Math.round(length * scale));
  const canvas = new OffscreenCanvas(pixels(width), pixels(height));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser draws no pictures");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/**
 * Whether it is transparent anywhere, which JPEG cannot say.
 * @param {OffscreenCanvas} canvas
 */
function hasHoles(canvas) {
  const data = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
  for (let alpha = 3; alpha < data.length; alpha += 4) if (data[alpha] !== 255) return true;
  return false;
}

/**
 * A file name that needs no quotes in a shell.
 * @param {string} name
 */
function safe(name) {
  return name.replace(/[^\w.]+/g, "-").replace(/^[-.]+/, "") || "picture.png";
}

// The camera: live pictures, and single ones of them.

import { Told } from "./words.js";

const SIDE = 320; // pixels of a picture, the middle square of what the camera sees

export class Camera {
  /** @type {MediaStream | null} */
  #stream = null;

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
  }

  get on() {
    return this.#stream !== null;
  }

  /** Raises Told. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Told("Browsers give the camera only to pages that came by https or from this very machine");
    }
    try {
      const video = { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw new Told(reason(error));
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
  }

  /** @returns {Promise<Blob>} a JPEG of what it sees now */
  async take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const side = Math.min(width, height);
    if (!side) throw new Told("The camera has sent no picture yet");
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    const context = canvas.getContext("2d");
    if (!context) throw new Told("This browser draws no pictures");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  }
}

/** @param {unknown} error */
function reason(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError")
    return "This page may not use the camera: allow it in the browser's address bar";
  if (name === "NotFoundError") return "There is no camera here";
  if (name === "NotReadableError") return "Another program uses the camera";
  return `The camera does not start (${error})`;
}

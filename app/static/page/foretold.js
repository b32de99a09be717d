// How long a run still takes, by what its events say.

/** @import * as Wire from "./wire.d.ts" */

const LAST = 3; // epochs that the pace is taken from

export class Foretold {
  /** @type {number[]} */
  #epochs = []; // seconds of each, with what is measured at its end

  /**
   * Seconds left: in the first epoch by the service, which knows the steps alone; then by whole epochs.
   * @param {Wire.Step} event
   */
  step({ epoch, epochs, step, steps, eta_seconds: byService }) {
    const pace = this.#pace();
    return pace === null ? byService : pace * (epochs - epoch + 1 - step / steps);
  }

  /**
   * Seconds left after an epoch.
   * @param {Wire.Epoch} event
   */
  epoch({ epoch, epochs, seconds }) {
    this.#epochs = [...this.#epochs, seconds].slice(-LAST);
    return (this.#pace() ?? 0) * (epochs - epoch);
  }

  #pace() {
    const { length } = this.#epochs;
    return length ? this.#epochs.reduce((sum, each) => sum + each, 0) / length : null;
  }
}

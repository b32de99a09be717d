// The very request that was sent, as a command, with the file that it needs.

import { $ } from "./dom.js";

export class Command {
  #file = "";

  constructor() {
    $("copy").onclick = () => this.#copy();
  }

  hide() {
    $("request").hidden = true;
  }

  /**
   * @param {{ blob: Blob, name: string }} picture
   * @param {string} path
   */
  show({ blob, name }, path) {
    URL.revokeObjectURL(this.#file);
    this.#file = URL.createObjectURL(blob);
    const download = $("download", HTMLAnchorElement);
    download.href = this.#file;
    download.download = name;
    download.textContent = `Download ${name}`;
    const url = new URL(path, document.baseURI);
    $("curl").textContent = `curl -H 'content-type: ${blob.type}' --data-binary @${name} '${url}'`;
    $("request").hidden = false;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($("curl").textContent ?? "");
    } catch {
      // only https and localhost have a clipboard
      getSelection()?.selectAllChildren($("curl"));
      document.execCommand("copy");
    }
    $("copy").textContent = "Copied";
    setTimeout(() => {
      $("copy").textContent = "Copy";
    }, 1500);
  }
}

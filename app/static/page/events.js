// Server-sent events out of a response's body.

/**
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} stream
 * @returns {AsyncGenerator<{ kind: string, id: number, data: any }>}
 */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split(/\r?\n\r?\n/);
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const { event, id, data } = fields(block);
      if (event && data) yield { kind: event, id: Number(id), data: JSON.parse(data) };
    }
  }
}

/**
 * @param {string} block "name: value" lines; those that begin with a colon are comments
 * @returns {Record<string, string>}
 */
function fields(block) {
  const lines = block.split(/\r?\n/).filter((line) => line && !line.startsWith(":"));
  return Object.fromEntries(
    lines.map((line) => {
      const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
      return [name, value];
    }),
  );
}

// Server-sent events out of pieces of text. EventSource could not send a key.

export class EventReader {
  #rest = "";

  /** Return the events that are complete with this piece: their data, parsed, and their id. */
  read(piece) {
    const blocks = (this.#rest + piece).split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(parsed).filter(Boolean);
  }
}

function parsed(block) {
  const fields = { data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") fields.data.push(value);
    else fields[name] = value;
  }
  return fields.data.length ? { id: fields.id, data: JSON.parse(fields.data.join("\n")) } : null;
}

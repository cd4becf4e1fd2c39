// Parses server-sent events incrementally. EventSource cannot send an Authorization header.

export class EventReader {
  #buffer = "";

  /** Return the events that this chunk of text completes, each with its id and its parsed data. */
  read(chunk) {
    const blocks = (this.#buffer + chunk).split("\n\n");
    this.#buffer = blocks.pop();
    return blocks.map(parseEvent).filter(Boolean);
  }
}

function parseEvent(block) {
  const fields = { data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") fields.data.push(value);
    else fields[name] = value;
  }
  return fields.data.length ? { id: fields.id, data: JSON.parse(fields.data.join("\n")) } : null;
}

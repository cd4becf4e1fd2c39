// A file transcribed while its request lasts, on servers that keep no jobs.

import { Refusal, upload } from "./server.js";
import { EventReader } from "./sse.js";

/** Resolve to the language's code; `heard(segments)` gets what is decoded meanwhile. */
export async function transcribe(file, fields, { signal, heard, ...watching }) {
  const events = new EventReader();
  let read = 0;
  let language = null;
  const received = (text) => {
    const happened = events.read(text.slice(read)).map(({ data }) => data);
    read = text.length;
    const failed = happened.find(({ error }) => error);
    if (failed) throw new Refusal(failed.error.message, 500);
    heard(happened.filter(({ segment }) => segment).map(({ segment }) => segment));
    language = happened.find(({ type }) => type === "transcript.text.done")?.languages?.[0].code ?? language;
  };
  let failure = null;
  const guarded = (text) => {
    try {
      received(text);
    } catch (error) {
      failure ??= error;
    }
  };
  const whole = await upload("v1/audio/transcriptions", form(file, fields), { signal, received: guarded, ...watching });
  guarded(whole);
  if (failure) throw failure;
  return language;
}

function form(file, fields) {
  const content = new FormData();
  for (const [name, value] of fields) content.append(name, value);
  content.append("stream", "true");
  content.append("detail", "true");
  content.append("file", file, file.name);
  return content;
}

// Transcribes files: as jobs, which the server finishes even if the page is closed, or within one streaming request.

import { RequestError, delay, request, requestJson, upload, waitForServer } from "./http.js";

const FINAL_STATES = ["succeeded", "failed", "cancelled"];
const MAX_RETRIES = 2;
const RETRY_DELAY = 500; // milliseconds

export const isJobId = (name) => /^job_\w+$/.test(name);
export const isFinished = ({ state }) => FINAL_STATES.includes(state);

export const listJobs = (after = "") => requestJson(`v1/jobs?limit=10${after && `&after=${after}`}`);
export const getJob = (id) => requestJson(`v1/jobs/${id}`);
export const cancelJob = (id) => requestJson(`v1/jobs/${id}/cancel`, { method: "POST" });
export const deleteJob = (id) => requestJson(`v1/jobs/${id}`, { method: "DELETE" });
export const audioPath = (id) => `v1/jobs/${id}/audio`;

/** Resolve to OpenAI's verbose_json, with words if the job was submitted with word timestamps. */
export function getResult({ id, response_format: format }) {
  const query = format === "verbose_json" ? "" : "?response_format=verbose_json&timestamp_granularities[]=segment";
  return requestJson(`v1/jobs/${id}/result${query}`);
}

/** Upload files and resolve to their jobs. If the server goes down meanwhile, wait for it and upload again. */
export async function submitJobs(files, fields, { signal, onDisconnect, ...callbacks }) {
  const granularities = fields.some(([name, value]) => name === "word_timestamps" && value) ? ["segment", "word"] : ["segment"];
  const form = formData(files, [
    ...fields,
    ["response_format", "verbose_json"],
    ...granularities.map((granularity) => ["timestamp_granularities[]", granularity]),
    ["keep_audio", "true"],
  ]);
  const headers = { "idempotency-key": randomKey() };
  for (let retries = 0; ; retries += 1) {
    try {
      const response = JSON.parse(await upload("v1/jobs", form, { signal, headers, ...callbacks }));
      return response.data ?? [response];
    } catch (error) {
      if (!error.unreachable) throw error;
      if (!(await request("health", { signal }).then(() => true, () => false))) {
        retries = 0;
        onDisconnect();
        await waitForServer(signal);
      } else if (retries < MAX_RETRIES) await delay(RETRY_DELAY, signal);
      else throw new RequestError("The upload was interrupted. The file may be too large for this server, or it can no longer be read.");
    }
  }
}

/** Yield the job's events until it has finished, reconnecting as needed. */
export async function* jobEvents(id, { signal, onDisconnect }) {
  let lastId = 0;
  for (;;) {
    try {
      const response = await request(`v1/jobs/${id}/events?last_event_id=${lastId}`, { signal });
      if (response.status === 204) return;
      for await (const event of readEvents(response)) {
        lastId = event.id ?? lastId;
        if (event.data.error && !event.data.type) throw new RequestError(event.data.error.message);
        yield event.data;
        if (isFinished({ state: event.data.type.replace("job.", "") })) return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof RequestError && !error.unreachable && error.status !== 503)) throw error;
    }
    onDisconnect();
    await waitForServer(signal);
  }
}

async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* events.read(value);
    }
  } finally {
    reader.cancel().catch(() => {}); // a broken connection cannot be cancelled
  }
}

/** Transcribe in one request. `onSegments(segments)` gets the segments as they are decoded; resolve to the language code. */
export async function transcribe(file, fields, { signal, onSegments, ...callbacks }) {
  const events = new EventReader();
  let length = 0;
  let language = null;
  let failure = null;
  const onReceive = (text) => {
    const messages = events.read(text.slice(length)).map(({ data }) => data);
    length = text.length;
    failure ??= messages.find(({ error }) => error)?.error;
    onSegments(messages.flatMap(({ segment }) => segment ?? []));
    language = messages.find(({ type }) => type === "transcript.text.done")?.languages?.[0].code ?? language;
  };
  const form = formData([file], [...fields, ["stream", "true"], ["detail", "true"]]);
  onReceive(await upload("v1/audio/transcriptions", form, { signal, onReceive, ...callbacks }));
  if (failure) throw new RequestError(failure.message, 500);
  return language;
}

/** Parses server-sent events incrementally. EventSource cannot send an Authorization header. */
class EventReader {
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

function formData(files, fields) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  for (const file of files) form.append("file", file, file.name);
  return form;
}

/** crypto.randomUUID exists only over HTTPS and on localhost. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
